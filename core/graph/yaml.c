/* libyaml's events to a tree with positions.
 *
 * libyaml itself accepts duplicate keys, thousands of nested lists and any
 * number of aliases; the limits are ours.  An alias shares its anchor's node and
 * only its size is counted, so a "billion laughs" is refused after a few events
 * without ever being expanded. */
#include "core/graph/yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

typedef struct anchor {
    const char *name;
    pipei_yaml *node;           /* NULL while it is still open */
} anchor;

typedef struct reader {
    yaml_parser_t parser;
    const pipei_source *source;
    const char *text;
    size_t length;
    uint32_t shift;
    size_t *nodes;
    pipe_arena *arena;
    pipei_reporter *reporter;
    anchor *anchors;
    size_t n_anchors, anchor_room;
} reader;

static pipei_yaml *parse_node(reader *r, const yaml_event_t *e, unsigned depth);

/* Room for one more element of an array in the arena. */
static void *grow(pipe_arena *a, void *old, size_t n, size_t *room, size_t each)
{
    if (n < *room)
        return old;
    *room = *room ? 2 * *room : 4;
    void *new = pipe_arena_alloc(a, *room * each);
    if (n)
        memcpy(new, old, n * each);
    return new;
}

static pipei_position position(const reader *r, const yaml_mark_t *start, const yaml_mark_t *end)
{
    pipei_position at = {.file = r->source->name, .line = (uint32_t)start->line + 1,
                         .column = (uint32_t)start->column + 1 + r->shift, .length = 1};
    if (r->source->override)
        at.line = 1;
    if (end && end->line == start->line && end->column > start->column)
        at.length = (uint32_t)(end->column - start->column);
    return at;
}

/* libyaml's reader knows a byte offset only. */
static pipei_position position_of_byte(const reader *r, size_t offset)
{
    pipei_position at = {.file = r->source->name, .line = 1, .column = 1 + r->shift, .length = 1};
    for (size_t k = 0; k < offset && k < r->length; k++) {
        const unsigned char c = (unsigned char)r->text[k];
        if (c == '\n') {
            at.line++;
            at.column = 1;
        } else if ((c & 0xC0) != 0x80) {
            at.column++;
        }
    }
    return at;
}

/* Length of the UTF-8 character at p (n bytes left), or 0. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char c = p[0];
    const size_t length = c < 0x80             ? 1
                          : (c & 0xE0) == 0xC0 ? 2
                          : (c & 0xF0) == 0xE0 ? 3
                          : (c & 0xF8) == 0xF0 ? 4
                                               : 0;
    if (length == 0 || length > n)
        return 0;
    uint32_t code = length == 1 ? c : c & (0xFFu >> (length + 1));
    for (size_t k = 1; k < length; k++) {
        if ((p[k] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[k] & 0x3Fu);
    }
    const bool valid = code >= least[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    return valid ? length : 0;
}

static bool check_utf8(reader *r)
{
    const unsigned char *p = (const unsigned char *)r->text;
    for (size_t k = 0; k < r->length; ) {
        const size_t n = utf8_length(p + k, r->length - k);
        if (n == 0) {
            const pipei_position at = position_of_byte(r, k);
            const bool utf16 = k == 0 && (p[0] == 0xFF || p[0] == 0xFE);
            pipei_report_error(r->reporter, &at, utf16 ? "save the file as UTF-8, not as UTF-16" :
                               "save the file as UTF-8", "byte 0x%02X is not UTF-8", p[k]);
            return false;
        }
        k += n;
    }
    return true;
}

static void report_syntax(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "invalid YAML";
    if (p->error == YAML_READER_ERROR) {
        const pipei_position at = position_of_byte(r, p->problem_offset);
        pipei_report_error(r->reporter, &at, NULL, "%s", problem);
        return;
    }
    const pipei_position at = position(r, &p->problem_mark, NULL);
    /* The most frequent mistake has the least helpful message. */
    size_t index = 0;
    for (size_t line = 0; line < p->problem_mark.line && index < r->length; index++)
        line += r->text[index] == '\n';
    index += p->problem_mark.column;
    if (index < r->length && r->text[index] == '\t') {
        pipei_report_error(r->reporter, &at, NULL, "a tab cannot indent YAML: use spaces");
        return;
    }
    const char *help = NULL;
    if (p->context) {
        const pipei_position from = position(r, &p->context_mark, NULL);
        help = r->source->override ? pipe_arena_strdup(r->arena, p->context) :
               pipe_arena_format(r->arena, "%s that starts at line %u, column %u", p->context, from.line,
                                 from.column);
    }
    pipei_report_error(r->reporter, &at, help, "YAML: %s", problem);
}

static bool next(reader *r, yaml_event_t *e)
{
    if (yaml_parser_parse(&r->parser, e))
        return true;
    memset(e, 0, sizeof *e);
    report_syntax(r);
    return false;
}

static bool count(reader *r, size_t more, const pipei_position *at)
{
    *r->nodes += more;
    if (*r->nodes <= PIPEI_YAML_NODES)
        return true;
    pipei_report_error(r->reporter, at, NULL,
                       "the pipeline has more than %d YAML nodes, counting what aliases and "
                       "includes expand to",
                       PIPEI_YAML_NODES);
    return false;
}

static pipei_yaml *new_node(reader *r, pipei_yaml_type type, const yaml_event_t *e)
{
    const pipei_position at = position(r, &e->start_mark, type == PIPEI_YAML_SCALAR ? &e->end_mark : NULL);
    if (!count(r, 1, &at))
        return NULL;
    pipei_yaml *y = pipe_arena_alloc(r->arena, sizeof *y);
    y->type = type;
    y->at = at;
    y->origin = at.file;
    y->weight = 1;
    return y;
}

static bool check_tag(reader *r, const yaml_event_t *e, const yaml_char_t *tag)
{
    if (!tag)
        return true;
    const pipei_position at = position(r, &e->start_mark, NULL);
    pipei_report_error(r->reporter, &at, "a value takes its type from the parameter that it is given to",
                       "tags such as %s are not part of the language", (const char *)tag);
    return false;
}

/* Returns where to put the node once it is complete. */
static size_t open_anchor(reader *r, const yaml_char_t *name)
{
    if (!name)
        return SIZE_MAX;
    r->anchors = grow(r->arena, r->anchors, r->n_anchors, &r->anchor_room, sizeof *r->anchors);
    r->anchors[r->n_anchors].name = pipe_arena_strdup(r->arena, (const char *)name);
    r->anchors[r->n_anchors].node = NULL;
    return r->n_anchors++;
}

static pipei_yaml *parse_alias(reader *r, const yaml_event_t *e)
{
    const char *name = (const char *)e->data.alias.anchor;
    const pipei_position at = position(r, &e->start_mark, &e->end_mark);
    for (size_t k = r->n_anchors; k-- > 0; )
        if (strcmp(r->anchors[k].name, name) == 0) {
            pipei_yaml *y = r->anchors[k].node;
            if (!y) {
                pipei_report_error(r->reporter, &at, NULL, "alias *%s is inside its own anchor", name);
                return NULL;
            }
            return count(r, y->weight, &at) ? y : NULL;
        }
    const char **names = pipe_arena_alloc(r->arena, (r->n_anchors + 1) * sizeof *names);
    for (size_t k = 0; k < r->n_anchors; k++)
        names[k] = r->anchors[k].name;
    const char *near = pipe_nearest(name, names, r->n_anchors);
    pipei_report_error(r->reporter, &at, near ? pipe_arena_format(r->arena, "did you mean *%s?", near) : NULL,
                       "alias *%s has no anchor before it", name);
    return NULL;
}

static pipei_yaml *parse_scalar(reader *r, const yaml_event_t *e)
{
    pipei_yaml *y = new_node(r, PIPEI_YAML_SCALAR, e);
    if (!y || !check_tag(r, e, e->data.scalar.tag))
        return NULL;
    const char *text = (const char *)e->data.scalar.value;
    const size_t n = e->data.scalar.length;
    if (memchr(text, '\0', n)) {
        pipei_report_error(r->reporter, &y->at, NULL, "a text cannot contain a NUL character");
        return NULL;
    }
    y->text = pipe_arena_strndup(r->arena, text, n);
    y->hash = pipei_yaml_hash(y->text);
    y->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return y;
}

static pipei_yaml *parse_list(reader *r, const yaml_event_t *start, unsigned depth)
{
    size_t room = 0;
    pipei_yaml *y = new_node(r, PIPEI_YAML_LIST, start);
    if (!y || !check_tag(r, start, start->data.sequence_start.tag))
        return NULL;
    for (;;) {
        PIPE_CLEANUP(yaml_event_delete) yaml_event_t e = {0};
        if (!next(r, &e))
            return NULL;
        if (e.type == YAML_SEQUENCE_END_EVENT)
            return y;
        pipei_yaml *item = parse_node(r, &e, depth + 1);
        if (!item)
            return NULL;
        y->item = grow(r->arena, y->item, y->n, &room, sizeof(pipei_yaml *));
        y->item[y->n++] = item;
        y->weight += item->weight;
    }
}

typedef struct pairs {
    pipei_yaml *map;
    size_t key_room, item_room;
} pairs;

static void add_pair(reader *r, pairs *p, pipei_yaml *key, pipei_yaml *value)
{
    pipei_yaml *y = p->map;
    y->key = grow(r->arena, y->key, y->n, &p->key_room, sizeof(pipei_yaml *));
    y->item = grow(r->arena, y->item, y->n, &p->item_room, sizeof(pipei_yaml *));
    y->key[y->n] = key;
    y->item[y->n++] = value;
    y->weight += key->weight + value->weight;
}

/* What `<<` brings: keys that the mapping does not have itself. */
static bool merge(reader *r, pairs *p, const pipei_yaml *from)
{
    if (from->type == PIPEI_YAML_LIST) {
        for (size_t k = 0; k < from->n; k++)
            if (from->item[k]->type == PIPEI_YAML_LIST) {
                pipei_report_error(r->reporter, &from->item[k]->at, NULL,
                                   "<< takes mappings, not lists of lists");
                return false;
            } else if (!merge(r, p, from->item[k])) {
                return false;
            }
        return true;
    }
    if (from->type != PIPEI_YAML_MAP) {
        pipei_report_error(r->reporter, &from->at, "<<: *anchor", "<< takes a mapping or a list of mappings");
        return false;
    }
    for (size_t k = 0; k < from->n; k++)
        if (!pipei_yaml_get(p->map, from->key[k]->text)) {
            if (!count(r, from->key[k]->weight + from->item[k]->weight, &from->at))
                return false;
            add_pair(r, p, from->key[k], from->item[k]);
        }
    return true;
}

uint64_t pipei_yaml_hash(const char *text)
{
    return pipe_hash64(text, strlen(text), 0);
}

static size_t find_key(const pipei_yaml *map, const char *key)
{
    const uint64_t hash = pipei_yaml_hash(key);
    for (size_t k = 0; k < map->n; k++)
        if (map->key[k]->hash == hash && strcmp(map->key[k]->text, key) == 0)
            return k;
    return SIZE_MAX;
}

static pipei_yaml *parse_map(reader *r, const yaml_event_t *start, unsigned depth)
{
    const pipei_yaml *merged = NULL;
    pipei_yaml *y = new_node(r, PIPEI_YAML_MAP, start);
    if (!y || !check_tag(r, start, start->data.mapping_start.tag))
        return NULL;
    pairs p = {.map = y};
    for (;;) {
        PIPE_CLEANUP(yaml_event_delete) yaml_event_t e = {0}, v = {0};
        if (!next(r, &e))
            return NULL;
        if (e.type == YAML_MAPPING_END_EVENT)
            break;
        pipei_yaml *key = parse_node(r, &e, depth + 1);
        if (!key)
            return NULL;
        if (key->type != PIPEI_YAML_SCALAR) {
            pipei_report_error(r->reporter, &key->at, NULL, "a key must be a word, not %s",
                               pipei_yaml_type_name(key));
            return NULL;
        }
        if (!next(r, &v))
            return NULL;
        pipei_yaml *value = parse_node(r, &v, depth + 1);
        if (!value)
            return NULL;
        const bool merges = key->plain && strcmp(key->text, "<<") == 0;
        const size_t first = merges ? SIZE_MAX : find_key(y, key->text);
        if (first != SIZE_MAX || (merges && merged)) {
            const pipei_position *before = merges ? &merged->at : &y->key[first]->at;
            pipei_report_error(r->reporter, &key->at, merges ? "merge several with <<: [*a, *b]" : NULL,
                               "key \"%s\" is given twice: first at line %u", key->text, before->line);
        } else if (merges) {
            merged = value;
        } else {
            add_pair(r, &p, key, value);
        }
    }
    if (merged && !merge(r, &p, merged))
        return NULL;
    return y;
}

static pipei_yaml *parse_node(reader *r, const yaml_event_t *e, unsigned depth)
{
    if (depth > PIPEI_YAML_DEPTH) {
        const pipei_position at = position(r, &e->start_mark, NULL);
        pipei_report_error(r->reporter, &at, NULL, "more than %d levels of nesting", PIPEI_YAML_DEPTH);
        return NULL;
    }
    const yaml_char_t *name = NULL;
    switch (e->type) {
    case YAML_ALIAS_EVENT: return parse_alias(r, e);
    case YAML_SCALAR_EVENT: name = e->data.scalar.anchor; break;
    case YAML_SEQUENCE_START_EVENT: name = e->data.sequence_start.anchor; break;
    default: name = e->data.mapping_start.anchor; break;
    }
    const size_t slot = open_anchor(r, name);
    pipei_yaml *y = e->type == YAML_SCALAR_EVENT ? parse_scalar(r, e) :
                    e->type == YAML_SEQUENCE_START_EVENT ? parse_list(r, e, depth) : parse_map(r, e, depth);
    if (y && slot != SIZE_MAX)
        r->anchors[slot].node = y;
    return y;
}

static pipei_yaml *parse_document(reader *r)
{
    pipei_yaml *root = NULL;
    for (;;) {
        PIPE_CLEANUP(yaml_event_delete) yaml_event_t e = {0};
        if (!next(r, &e))
            return NULL;
        switch (e.type) {
        case YAML_STREAM_START_EVENT: case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_STREAM_END_EVENT:
            if (!root) {
                const pipei_position at = {
                    .file = r->source->name, .line = 1, .column = 1 + r->shift, .length = 1};
                pipei_report_error(r->reporter, &at, NULL, "there is nothing in it");
            }
            return root;
        case YAML_DOCUMENT_START_EVENT:
            if (root) {
                const pipei_position at = position(r, &e.start_mark, &e.end_mark);
                pipei_report_error(r->reporter, &at, "put other pipelines in files of their own",
                                   "a second document starts here: a file holds one");
                return NULL;
            }
            break;
        default:
            root = parse_node(r, &e, 1);
            if (!root)
                return NULL;
        }
    }
}

pipei_yaml *pipei_yaml_parse(const pipei_source *source, const char *text, size_t length, uint32_t shift,
                             size_t *nodes, pipe_arena *a, pipei_reporter *reporter)
{
    static const char bom[] = "\xEF\xBB\xBF";
    if (length >= 3 && memcmp(text, bom, 3) == 0) {
        text += 3;
        length -= 3;
    }
    reader r = {.source = source, .text = text, .length = length, .shift = shift, .nodes = nodes, .arena = a,
                .reporter = reporter};
    if (length > PIPEI_YAML_BYTES) {
        const pipei_position at = {.file = source->name, .line = 1, .column = 1, .length = 1};
        pipei_report_error(reporter, &at, NULL, "a pipeline is at most %d bytes long", PIPEI_YAML_BYTES);
        return NULL;
    }
    if (!check_utf8(&r))
        return NULL;
    if (!yaml_parser_initialize(&r.parser)) {
        const pipei_position at = {.file = source->name};
        pipei_report_error(reporter, &at, NULL, "no memory for the YAML parser");
        return NULL;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);    /* otherwise a BOM could switch to UTF-16 */
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
    pipei_yaml *root = parse_document(&r);
    yaml_parser_delete(&r.parser);
    return root;
}

/* ---- the tree ---- */
pipei_yaml *pipei_yaml_get(const pipei_yaml *map, const char *key)
{
    const size_t k = map->type == PIPEI_YAML_MAP ? find_key(map, key) : SIZE_MAX;
    return k == SIZE_MAX ? NULL : map->item[k];
}

pipei_yaml *pipei_yaml_copy(const pipei_yaml *y, size_t more, pipe_arena *a)
{
    pipei_yaml *copy = pipe_arena_alloc(a, sizeof *copy);
    *copy = *y;
    if (y->type == PIPEI_YAML_SCALAR)
        return copy;
    const size_t bytes = (y->n + more) * sizeof(pipei_yaml *);
    copy->item = pipe_arena_alloc(a, bytes);
    if (y->n)
        memcpy(copy->item, y->item, y->n * sizeof(pipei_yaml *));
    if (y->type == PIPEI_YAML_MAP) {
        copy->key = pipe_arena_alloc(a, bytes);
        if (y->n)
            memcpy(copy->key, y->key, y->n * sizeof(pipei_yaml *));
    }
    return copy;
}

pipei_yaml *pipei_yaml_scalar(const char *text, const pipei_position *at, pipe_arena *a)
{
    pipei_yaml *y = pipe_arena_alloc(a, sizeof *y);
    y->type = PIPEI_YAML_SCALAR;
    y->plain = true;
    y->at = *at;
    y->origin = at->file;
    y->text = pipe_arena_strdup(a, text);
    y->hash = pipei_yaml_hash(text);
    y->weight = 1;
    return y;
}

const char *pipei_yaml_type_name(const pipei_yaml *y)
{
    return y->type == PIPEI_YAML_SCALAR ? "a scalar" : y->type == PIPEI_YAML_LIST ? "a list" : "a mapping";
}

bool pipei_yaml_null(const pipei_yaml *y)
{
    return y->type == PIPEI_YAML_SCALAR && y->plain &&
           (y->text[0] == '\0' || strcmp(y->text, "~") == 0 || strcmp(y->text, "null") == 0);
}

/* Words, numbers and ordinary paths need no quotes. */
static bool plain_is_safe(const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./@+-";
    if (text[0] == '\0' || text[strspn(text, safe)] != '\0' || strchr("@-.", text[0]))
        return text[0] == '-' && text[1] >= '0' && text[1] <= '9' && text[strspn(text, safe)] == '\0';
    return strcmp(text, "null") != 0;
}

void pipei_yaml_write_scalar(const char *text, pipe_text *out)
{
    if (plain_is_safe(text)) {
        pipe_text_add(out, text);
        return;
    }
    pipe_text_add(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            pipe_text_addf(out, "\\%c", *p);
        else if (*p == '$' && p[1] == '{')
            pipe_text_add(out, "$$");
        else if (*p == '\n')
            pipe_text_add(out, "\\n");
        else if (*p == '\t')
            pipe_text_add(out, "\\t");
        else if (*p < 0x20 || *p == 0x7F)
            pipe_text_addf(out, "\\x%02X", *p);
        else
            pipe_text_add_bytes(out, p, 1);
    }
    pipe_text_add(out, "\"");
}

void pipei_yaml_write(const pipei_yaml *y, pipe_text *out)
{
    if (y->type == PIPEI_YAML_SCALAR) {
        if (pipei_yaml_null(y))
            pipe_text_add(out, "null");
        else
            pipei_yaml_write_scalar(y->text, out);
        return;
    }
    const bool map = y->type == PIPEI_YAML_MAP;
    pipe_text_add(out, map ? "{" : "[");
    for (size_t k = 0; k < y->n; k++) {
        if (k)
            pipe_text_add(out, ", ");
        if (map) {
            pipei_yaml_write_scalar(y->key[k]->text, out);
            pipe_text_add(out, ": ");
        }
        pipei_yaml_write(y->item[k], out);
    }
    pipe_text_add(out, map ? "}" : "]");
}
