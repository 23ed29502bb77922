/* Signals of a run.  Handlers only set flags; a second request to stop ends the
 * process without running anything else, since what it was doing may be stuck. */
#include "core/run/context.h"

#include <signal.h>
#include <unistd.h>

/* Process-wide by nature. */
static volatile sig_atomic_t stop_signal, save_requests;
static sig_atomic_t save_served;
static unsigned depth;
static struct sigaction old_int, old_term, old_usr1;

static void on_stop(int number)
{
    if (stop_signal)
        _exit(128 + number);
    stop_signal = number;
}

static void on_save(int number)
{
    (void)number;
    save_requests++;
}

static void install(int number, void (*handler)(int))
{
    struct sigaction now;

    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == handler)
        return;
    now = (struct sigaction){.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(number, &now, NULL);
}

/* OpenCL drivers are compilers: LLVM takes these signals for itself when it first
 * compiles something, and swallows SIGUSR1.  So whoever looks at the flags makes
 * sure that the next signal will reach them. */
void pipei_signals_keep(void)
{
    if (depth == 0)
        return;
    if (old_int.sa_handler != SIG_IGN)          /* started with `nohup` or `&`: stays ignored */
        install(SIGINT, on_stop);
    install(SIGTERM, on_stop);
    install(SIGUSR1, on_save);
}

void pipei_signals_begin(void)
{
    if (depth++ > 0)
        return;
    stop_signal = save_requests = save_served = 0;
    sigaction(SIGINT, NULL, &old_int);
    sigaction(SIGTERM, NULL, &old_term);
    sigaction(SIGUSR1, NULL, &old_usr1);
    pipei_signals_keep();
}

void pipei_signals_end(void)
{
    if (--depth > 0)
        return;
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    sigaction(SIGUSR1, &old_usr1, NULL);
}

int pipei_signal_pending(void)
{
    return (int)stop_signal;
}

bool pipe_stop_requested(pipe_context *ctx, bool *save)
{
    const sig_atomic_t requests = save_requests;
    const bool wanted = requests != save_served;

    (void)ctx;
    pipei_signals_keep();
    save_served = requests;
    if (save)
        *save = wanted || stop_signal;
    return stop_signal != 0;
}
