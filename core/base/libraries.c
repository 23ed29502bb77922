/* What the libraries say about themselves. */
#include "core/base/libraries.h"

#include <cairo.h>
#include <gnu/libc-version.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <png.h>
#include <sndfile.h>
#include <stdio.h>
#include <yaml.h>
#include <zip.h>
#include <zlib.h>

size_t pipei_libraries(const pipei_library **out)
{
    static pipei_library list[9];
    size_t n = 0;
    list[n++] = (pipei_library){"glibc", gnu_get_libc_version()};
    list[n++] = (pipei_library){"libyaml", yaml_get_version_string()};
    list[n++] = (pipei_library){"jansson", jansson_version_str()};
    list[n++] = (pipei_library){"libpng", png_get_libpng_ver(NULL)};
    list[n++] = (pipei_library){"zlib", zlibVersion()};
    list[n++] = (pipei_library){"libcrypto", OpenSSL_version(OPENSSL_VERSION_STRING)};
    list[n++] = (pipei_library){"libsndfile", sf_version_string()};
    list[n++] = (pipei_library){"cairo", cairo_version_string()};
    list[n++] = (pipei_library){"libzip", zip_libzip_version()};
    *out = list;
    return n;
}

#if defined __clang__
#define COMPILER "clang " __clang_version__
#elif defined __GNUC__
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

const char *pipei_compiler(void)
{
    return COMPILER;
}
