/* CSV: fields, names, numbers, errors with their line. */
#include "io-test.h"

static const struct {
    const char *text;
    size_t rows, columns;
    const char *names, *fields;      /* '|' between; fields of all rows */
    const char *why;
} tables[] = {
    {"a,b\n1,2\n3,4\n", 2, 2, "a|b", "1|2|3|4", "names"},
    {"1,2\n3,4", 2, 2, "0|1", "1|2|3|4", "no names, no last newline"},
    {"a;b\r\n1,5;2\r\n", 1, 2, "a|b", "1,5|2", "semicolons, CRLF"},
    {"a\tb\n1\t2\n", 1, 2, "a|b", "1|2", "tabulators"},
    {"\xEF\xBB\xBF" "a,b\n1,2\n", 1, 2, "a|b", "1|2", "a mark of UTF-8 in front"},
    {"\"a \"\"x\"\"\",\"b,c\"\n\"1\n2\",3\n", 1, 2, "a \"x\"|b,c", "1\n2|3",
        "quotes, commas and newlines in them"},
    {"a,b\n\n1,2\n\r\n3,4\n", 2, 2, "a|b", "1|2|3|4", "empty lines"},
    {"a,b\n1,\n,2\n", 2, 2, "a|b", "1|||2", "empty fields"},
    {"a\n\"\"\n", 1, 1, "a", "", "an empty quoted field is a row"},
};

Test(io, csv_fields)
{
    for (size_t k = 0; k < COUNT(tables); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *t = NULL;
        PIPE_CLEANUP(pipe_text_free) pipe_text names = {0}, fields = {0};
        MUST(pipei_csv_parse("t.csv", tables[k].text, strlen(tables[k].text), 0, &t, &err));
        cr_assert_eq(pipe_table_rows(t), tables[k].rows, "%s", tables[k].why);
        cr_assert_eq(pipe_table_columns(t), tables[k].columns, "%s", tables[k].why);
        for (size_t c = 0; c < pipe_table_columns(t); c++) {
            pipe_text_addf(&names, "%s%s", c ? "|" : "", pipe_table_name(t, c));
            cr_expect_eq(pipe_table_find(t, pipe_table_name(t, c)), c);
        }
        for (size_t r = 0; r < pipe_table_rows(t); r++)
            for (size_t c = 0; c < pipe_table_columns(t); c++)
                pipe_text_addf(&fields, "%s%s", r || c ? "|" : "", pipe_table_text(t, r, c));
        cr_expect_str_eq(names.data, tables[k].names, "%s", tables[k].why);
        cr_expect_str_eq(fields.data ? fields.data : "", tables[k].fields, "%s", tables[k].why);
        cr_expect_eq(pipe_table_find(t, "absent"), pipe_table_columns(t));
        cr_expect_null(pipe_table_text(t, pipe_table_rows(t), 0));
    }
}

static const struct {
    const char *text, *parts, *why;
} damaged[] = {
    {"", "t.csv|empty", "nothing"},
    {"\n\n", "t.csv|empty", "only empty lines"},
    {"a,b\n1,2\n\n1,2,3\n", "t.csv:4: 3 fields, the first row has 2", "a field too many, the line counted"},
    {"a,b\n\"1\n\n2\",3\n1\n", "t.csv:5: 1 fields", "lines inside quotes count"},
    {"a,b\n1,\"2\n", "t.csv:2: a quote is opened", "an open quote"},
    {"a,b\n\"1\"x,2\n", "t.csv:2: text behind a closing quote", "behind a quote"},
    {"a,b\n1\r,2\n", "t.csv:2: a carriage return", "a lone carriage return"},
};

Test(io, csv_damage)
{
    for (size_t k = 0; k < COUNT(damaged); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_table *t = NULL;
        PIPE_CLEANUP(pipe_free_ptr) void *bytes = exact(damaged[k].text, strlen(damaged[k].text));
        check_failure(pipei_csv_parse("t.csv", bytes, strlen(damaged[k].text), 0, &t, &err), PIPE_EFORMAT,
                      &err, damaged[k].parts, damaged[k].why);
        cr_expect_null(t);
    }
    pipe_error err = PIPE_ERROR_INIT;
    pipe_table *t = NULL;
    check_failure(pipei_csv_parse("t.csv", "a\0b", 3, 0, &t, &err), PIPE_EFORMAT, &err, "byte 1 is NUL",
                  "binary");
    check_failure(pipei_csv_parse("t.csv", "a", 1, '|', &t, &err), PIPE_EINVAL, &err, "'|'", "separator");
}

Test(io, csv_numbers)
{
    static const char text[] = "date,x,y\n2016-07-01,1e-4,\n2016-07-02, -2.5 ,NA\n2016-07-03,+inf,0x10\n";
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *t = NULL;
    double v[3];
    MUST(pipei_csv_parse("t.csv", text, strlen(text), ',', &t, &err));
    cr_expect_not(pipe_table_is_number(t, 0));
    cr_expect(pipe_table_is_number(t, 1));
    MUST(pipe_table_numbers(t, 1, v, &err));
    cr_expect(v[0] == 1e-4 && v[1] == -2.5 && v[2] == INFINITY);
    MUST(pipe_table_numbers(t, 2, v, &err));
    cr_expect(isnan(v[0]) && isnan(v[1]) && v[2] == 16);
    check_failure(pipe_table_numbers(t, 0, v, &err), PIPE_EFORMAT, &err,
                  "t.csv:2: column \"date\": \"2016-07-01\" is not a number", "a date");
    check_failure(pipe_table_numbers(t, 3, v, &err), PIPE_EINVAL, &err, "column 3 of 3", "no such column");
}

Test(io, csv_round_trip)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "t.csv");
    const double values[6] = {0.1, -1.0 / 3, 1e300, NAN, 5e-324, -INFINITY};
    const char *const names[2] = {"plain", "a \"quoted\", one"};
    MUST(pipe_csv_write(path, names, values, 3, 2, &err));
    char *bytes;
    size_t n;
    MUST(pipei_file_read(path, 1000, &bytes, &n, &err));
    cr_expect_str_eq(bytes, "plain,\"a \"\"quoted\"\", one\"\n0.1,-0.3333333333333333\n1e+300,\n"
                            "4.94065645841247e-324,-inf\n");
    pipe_free(bytes);
    PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *t = NULL;
    MUST(pipe_csv_read(path, 0, &t, &err));
    cr_expect_eq(pipe_table_find(t, names[1]), 1);
    for (size_t c = 0; c < 2; c++) {
        double v[3];
        MUST(pipe_table_numbers(t, c, v, &err));
        for (size_t r = 0; r < 3; r++)
            cr_expect(v[r] == values[2 * r + c] || (isnan(v[r]) && isnan(values[2 * r + c])));
    }
    const double one[2] = {NAN, 2};
    MUST(pipe_csv_write(path, NULL, one, 2, 1, &err));
    PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *u = NULL;
    MUST(pipe_csv_read(path, 0, &u, &err));
    cr_expect_eq(pipe_table_rows(u), 2, "a missing value alone in its row is a row");
    check_failure(pipe_csv_write(path, NULL, one, 2, 0, &err), PIPE_EINVAL, &err, "without columns",
                  "no columns");
}
