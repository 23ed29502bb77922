/* Real data that tests read. */
#ifndef TESTS_SUPPORT_DATA_H
#define TESTS_SUPPORT_DATA_H

#include <criterion/criterion.h>
#include <unistd.h>

#define FASHION_MNIST "/usr/share/datasets/fashion-mnist"

/* Ends the test as skipped, loudly, where the data are not: Debian's package is among those that
 * tools/check installs. */
static inline void need_fashion_mnist(void)
{
    if (access(FASHION_MNIST "/train-images-idx3-ubyte.gz", R_OK) != 0)
        cr_skip_test("SKIPPED: " FASHION_MNIST " is not there (Debian package dataset-fashion-mnist)");
}

#endif
