/* Runs the statement for the work-item's share of 0 .. n - 1: a contiguous run
 * where there are few work-items (CPU), one element where there are many (GPU). */
#define EACH(i, n)                                                                          \
    for (int i##_per = (int)(((uint)(n) + (uint)get_global_size(0) - 1u) / (uint)get_global_size(0)), \
             i = (int)get_global_id(0) * i##_per, i##_end = min((int)(n), i + i##_per);     \
         i < i##_end; i++)
/* The same for work-groups: every work-item of the group sees the same i. */
#define EACH_GROUP(i, n)                                                                    \
    for (int i##_per = (int)(((uint)(n) + (uint)get_num_groups(0) - 1u) / (uint)get_num_groups(0)), \
             i = (int)get_group_id(0) * i##_per, i##_end = min((int)(n), i + i##_per);      \
         i < i##_end; i++)
