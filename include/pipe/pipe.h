/* Everything a plugin may include. */
#ifndef PIPE_PIPE_H
#define PIPE_PIPE_H

#include <pipe/gaussian.h>
#include <pipe/guidance.h>
#include <pipe/op.h>
#include <pipe/plugin.h>
#include <pipe/run.h>
#include <pipe/solver.h>
#include <pipe/steps.h>

#endif
