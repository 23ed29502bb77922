/* Distribution functions and quantiles against SciPy 1.17 (scipy.special.betainc, scipy.stats.norm.ppf). */
#include "core/base/special.h"

#include <criterion/criterion.h>
#include <math.h>

Test(special, the_incomplete_beta_function_and_its_inverse)
{
    static const struct {
        double x, a, b, p;
    } cases[] = {
        {0.3, 0.6, 0.6, 0.3525265117721437},     {0.9, 0.6, 0.6, 0.8239527456539625},
        {1e-6, 0.6, 0.6, 0.0001733284225060189}, {0.25, 2, 5, 0.466064453125},
        {0.999, 0.5, 3, 0.9999999996873826},
    };

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const double p = pipei_beta_cdf(cases[k].x, cases[k].a, cases[k].b);
        cr_expect_float_eq(p, cases[k].p, 1e-13 * cases[k].p, "case %zu: %.16g", k, p);
        const double x = pipei_beta_quantile(cases[k].p, cases[k].a, cases[k].b);
        /* where the function is flat, its inverse has only the digits that p has left */
        cr_expect_float_eq(x, cases[k].x, k == 4 ? 1e-6 : 1e-12 * cases[k].x, "case %zu: %.16g", k, x);
    }
    cr_expect_eq(pipei_beta_quantile(0.0, 0.6, 0.6), 0.0);
    cr_expect_eq(pipei_beta_quantile(1.0, 0.6, 0.6), 1.0);
}

Test(special, normal_quantiles)
{
    static const double cases[][2] = {
        {1e-300, -37.0470962993612},
        {1e-10, -6.361340902404056},
        {0.001, -3.090232306167813},
        {0.3, -0.5244005127080409},
        {0.5, 0.0},
        {0.8, 0.8416212335729143},
        {0.999999, 4.753424308817087},
    };

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        cr_expect_float_eq(pipei_normal_quantile(cases[k][0]), cases[k][1], 1e-10, "of %g: %.16g",
                           cases[k][0], pipei_normal_quantile(cases[k][0]));
    cr_expect(isinf(pipei_normal_quantile(0.0)) && isinf(pipei_normal_quantile(1.0)));
}
