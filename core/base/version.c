#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <pipe/base.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"   /* compiled without configure: fuzz targets */
#endif

const char *pipe_version(void)
{
    return PACKAGE_VERSION;
}
