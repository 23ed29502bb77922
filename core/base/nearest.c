/* "did you mean ...?": optimal string alignment distance (insertions, deletions,
 * substitutions and swaps of neighbours cost 1), letters compared without case. */
#include <pipe/base.h>

#include <ctype.h>
#include <string.h>

enum { LONGEST = 128 };   /* no name of ours is longer: longer words have no neighbour */

static int lower(char c)
{
    return tolower((unsigned char)c);
}

static size_t min2(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, size_t la, const char *b, size_t lb)
{
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];

    for (size_t j = 0; j <= lb; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= la; i++) {
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            const size_t differs = lower(a[i - 1]) != lower(b[j - 1]);
            size_t d = min2(min2(last[j], row[j - 1]) + 1, last[j - 1] + differs);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]))
                d = min2(d, before[j - 2] + 1);
            row[j] = d;
        }
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
    }
    return last[lb];
}

/* "ddim" for "sampler.ddim": the part behind a dot. */
static bool is_tail(const char *word, size_t n, const char *name, size_t length)
{
    return n < length && name[length - n - 1] == '.' && strncasecmp(name + length - n, word, n) == 0;
}

const char *pipe_nearest(const char *word, const char *const *names, size_t n)
{
    const size_t length = strlen(word);
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    if (length == 0 || length > LONGEST)
        return NULL;
    for (size_t k = 0; k < n; k++) {
        const size_t other = names[k] ? strlen(names[k]) : 0;
        if (other == 0 || other > LONGEST)
            continue;
        size_t d = distance(word, length, names[k], other);
        if (d > 1 && is_tail(word, length, names[k], other))
            d = 1;
        /* A third of the letters may be wrong; of one letter, none stays. */
        const size_t longer = length > other ? length : other;
        const size_t allowed = longer < 3 ? 1 : longer / 3;
        if (d > allowed || (d == longer && d > 0))
            continue;
        if (d < best_distance) {
            best = names[k];
            best_distance = d;
        }
    }
    return best;
}
