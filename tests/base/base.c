/* Errors, memory, text, arena, nearest names, hashes. */
#include "support/folder.h"

#include <stdio.h>

Test(base, fail_formats_and_returns_the_status)
{
    pipe_error err = PIPE_ERROR_INIT;
    cr_assert_eq(pipe_fail(&err, PIPE_EIO, "%s: %d\n", "disk", 7), PIPE_EIO);
    cr_assert_eq(err.status, PIPE_EIO);
    cr_assert_str_eq(err.message, "disk: 7");
    cr_assert_eq(pipe_fail(NULL, PIPE_EINVAL, "nobody reads %d", 1), PIPE_EINVAL);
}

Test(base, context_goes_in_front)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_fail(&err, PIPE_EFORMAT, "bad magic");
    cr_assert_eq(pipe_context_fail(&err, PIPE_EFORMAT, "node \"%s\"", "data"), PIPE_EFORMAT);
    cr_assert_str_eq(err.message, "node \"data\": bad magic");
}

Test(base, a_message_may_quote_itself)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_fail(&err, PIPE_EIO, "inner");
    pipe_fail(&err, PIPE_EIO, "outer: %s", err.message);
    cr_assert_str_eq(err.message, "outer: inner");
}

Test(base, long_messages_are_cut_between_characters)
{
    pipe_error err = PIPE_ERROR_INIT;
    for (size_t shift = 0; shift < 3; shift++) {
        char text[4096];
        memset(text, 'x', shift);
        for (size_t k = shift; k + 3 < sizeof text; k += 3)
            memcpy(text + k, "\xE2\x82\xAC", 3);      /* the euro sign */
        text[4000] = '\0';
        pipe_fail(&err, PIPE_EIO, "%s", text);
        const size_t n = strlen(err.message);
        cr_expect(n >= sizeof err.message - 8 && n < sizeof err.message, "length %zu", n);
        cr_expect_str_eq(err.message + n - 3, "...");
        cr_expect_eq((n - 3 - shift) % 3, 0, "cut inside a character at shift %zu", shift);
    }
}

Test(base, an_older_shorter_error_is_not_overrun)
{
    union {
        pipe_error err;
        unsigned char bytes[sizeof(pipe_error)];
    } u;
    memset(&u, 0x5A, sizeof u);
    u.err.size = offsetof(pipe_error, message) + 8;
    pipe_fail(&u.err, PIPE_EIO, "a long message");
    cr_assert_eq(u.err.message[7], '\0');
    for (size_t k = u.err.size; k < sizeof u; k++)
        cr_assert_eq(u.bytes[k], 0x5A, "byte %zu was written", k);
}

Test(base, every_status_has_its_own_name)
{
    for (int a = PIPE_OK; a <= PIPE_EPIPELINE; a++)
        for (int b = PIPE_OK; b < a; b++)
            cr_expect_str_neq(pipe_status_name((pipe_status)a), pipe_status_name((pipe_status)b));
    cr_expect_str_eq(pipe_status_name((pipe_status)99), "unknown");
}

Test(base, memory_is_zeroed)
{
    unsigned char *p = pipe_alloc_array(100, 3);
    for (size_t k = 0; k < 300; k++)
        cr_assert_eq(p[k], 0);
    p = pipe_realloc(p, 10000);
    pipe_free_ptr(&p);
    cr_assert_null(p);
    cr_assert_null(pipe_strdup(NULL));
    cr_assert_null(pipe_try_alloc(SIZE_MAX / 2));
    void *empty = pipe_alloc(0);
    cr_assert_not_null(empty);
    pipe_free(empty);
}

Test(base, exhausted_memory_ends_with_status_3, .exit_code = 3)
{
    pipe_alloc_array(SIZE_MAX / 4, 8);
}

Test(base, checked_sizes)
{
    size_t out = 0;
    cr_expect(pipe_mul_size(3, 4, &out) && out == 12);
    cr_expect_not(pipe_mul_size(SIZE_MAX, 2, &out));
    cr_expect(pipe_add_size(3, 4, &out) && out == 7);
    cr_expect_not(pipe_add_size(SIZE_MAX, 1, &out));
}

Test(base, text_grows)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_addf(&t, "%s", "");
    for (int k = 0; k < 1000; k++)
        pipe_text_addf(&t, "%d,", k);
    cr_assert_eq(t.length, strlen(t.data));
    cr_assert_eq(strncmp(t.data, "0,1,2,3,", 8), 0);
    cr_assert_str_eq(t.data + t.length - 8, "998,999,");
    pipe_text_clear(&t);
    pipe_text_add_bytes(&t, "a\0b", 3);
    cr_assert_eq(t.length, 3);
    cr_assert_eq(memcmp(t.data, "a\0b", 4), 0);
}

Test(base, arena_gives_zeroed_aligned_memory_again_after_a_reset)
{
    pipe_arena *a = pipe_arena_new();
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 200000; n = n * 3 + 1) {
            unsigned char *p = pipe_arena_alloc(a, n);
            cr_assert_eq((uintptr_t)p % 16, 0);
            for (size_t k = 0; k < n; k++)
                cr_assert_eq(p[k], 0, "byte %zu of %zu, round %d", k, n, round);
            memset(p, 0xFF, n);
        }
        cr_assert_str_eq(pipe_arena_strdup(a, "kept"), "kept");
        cr_assert_str_eq(pipe_arena_strndup(a, "kept", 2), "ke");
        cr_assert_str_eq(pipe_arena_strndup(a, "kept", 9), "kept");
        cr_assert_str_eq(pipe_arena_format(a, "%d-%s", 3, "x"), "3-x");
        pipe_arena_reset(a);
    }
    pipe_arena_free(a);
    pipe_arena_free(NULL);
}

static const struct {
    const char *word, *expected, *why;
} nearest_cases[] = {
    {"stpes", "steps", "neighbours swapped"},
    {"step", "steps", "a letter is missing"},
    {"stepss", "steps", "a letter too many"},
    {"STEPS", "steps", "case does not count"},
    {"sampler.ddmi", "sampler.ddim", "swap behind the dot"},
    {"ddim", "sampler.ddim", "the kind was left out"},
    {"sampler.dpmpp2m", "sampler.dpmpp-2m", "the dash was left out"},
    {"lr", "lr", "short, exact"},
    {"le", "lr", "short, one wrong"},
    {"colour", NULL, "nothing is near"},
    {"xq", NULL, "no letter in common"},
    {"", NULL, "nothing was given"},
};

Test(base, nearest)
{
    static const char *const names[] = {"steps", "sampler.ddim", "sampler.ddpm", "sampler.dpmpp-2m", "lr",
        NULL};
    for (size_t k = 0; k < sizeof nearest_cases / sizeof nearest_cases[0]; k++) {
        const char *got = pipe_nearest(nearest_cases[k].word, names, 6), *want = nearest_cases[k].expected;
        cr_expect(want ? got && strcmp(got, want) == 0 : !got, "%s: \"%s\" gave %s", nearest_cases[k].why,
                  nearest_cases[k].word, got ? got : "nothing");
    }
    char longest[4000];
    memset(longest, 's', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    cr_expect_null(pipe_nearest(longest, names, 5));
}

Test(base, sha256_of_known_texts)
{
    /* FIPS 180-4 examples */
    char hex[65];
    pipe_sha256_finish(pipe_sha256_new(), hex);
    cr_expect_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    pipe_sha256 *h = pipe_sha256_new();
    pipe_sha256_add(h, "a", 1);
    pipe_sha256_add(h, "bc", 2);
    pipe_sha256_finish(h, hex);
    cr_expect_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(base, sha256_strings_are_delimited)
{
    char one[65], two[65];
    pipe_sha256 *h = pipe_sha256_new();
    pipe_sha256_add_string(h, "ab");
    pipe_sha256_add_string(h, "c");
    pipe_sha256_finish(h, one);
    h = pipe_sha256_new();
    pipe_sha256_add_string(h, "a");
    pipe_sha256_add_string(h, "bc");
    pipe_sha256_finish(h, two);
    cr_expect_str_neq(one, two);
}

Test(base, sha256_of_a_file)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "f");
    const size_t n = 700001;                    /* more than one chunk */
    PIPE_CLEANUP(pipe_free_ptr) char *data = pipe_alloc(n);
    memset(data, 'q', n);
    MUST(pipei_file_write(path, data, n, &err));
    char of_file[65], of_memory[65];
    MUST(pipe_sha256_file(path, of_file, &err));
    pipe_sha256 *h = pipe_sha256_new();
    pipe_sha256_add(h, data, n);
    pipe_sha256_finish(h, of_memory);
    cr_expect_str_eq(of_file, of_memory);
    check_failure(pipe_sha256_file(folder, of_file, &err), PIPE_EIO, &err, "directory", "a folder");
    check_failure(pipe_sha256_file("/nonexistent/x", of_file, &err), PIPE_ENOTFOUND, &err,
                  "/nonexistent/x|No such", "absent");
}

Test(base, hash64_never_changes)
{
    /* Part of the file formats.  Computed once by an independent Python transcription:
     * h = 0xcbf29ce484222325 ^ seed; per byte h = (h ^ b) * 0x100000001b3; fmix64(h). */
    cr_expect_eq(pipe_hash64("", 0, 0), UINT64_C(0xefd01f60ba992926));
    cr_expect_eq(pipe_hash64("a", 1, 0), UINT64_C(0x82a2a958a9bece5b));
    cr_expect_eq(pipe_hash64("pipe", 4, 42), UINT64_C(0x860dc5e71375c6f4));
}

Test(base, version_is_three_numbers)
{
    int a, b, c, end = 0;
    cr_assert_eq(sscanf(pipe_version(), "%d.%d.%d%n", &a, &b, &c, &end), 3);
    cr_assert_eq(pipe_version()[end], '\0');
}
