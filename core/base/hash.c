/* SHA-256 (libcrypto) for content keys; FNV-1a for tables and random streams. */
#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pipe_sha256 {
    EVP_MD_CTX *context;
};

/* libcrypto refuses only when it has no memory or no SHA-256 provider: neither
 * can be repaired by a caller, and a wrong hash must never be used. */
static void must(int ok)
{
    if (ok != 1) {
        pipe_log(PIPE_LOG_ERROR, NULL, "libcrypto cannot compute SHA-256");
        abort();
    }
}

pipe_sha256 *pipe_sha256_new(void)
{
    pipe_sha256 *h = pipe_alloc(sizeof *h);
    h->context = EVP_MD_CTX_new();
    must(h->context != NULL);
    must(EVP_DigestInit_ex(h->context, EVP_sha256(), NULL));
    return h;
}

void pipe_sha256_add(pipe_sha256 *h, const void *data, size_t n)
{
    if (n)
        must(EVP_DigestUpdate(h->context, data, n));
}

void pipe_sha256_add_string(pipe_sha256 *h, const char *s)
{
    const uint64_t n = strlen(s);
    unsigned char length[8];
    for (int k = 0; k < 8; k++)
        length[k] = (unsigned char)(n >> (8 * k));
    pipe_sha256_add(h, length, sizeof length);
    pipe_sha256_add(h, s, n);
}

void pipe_sha256_finish(pipe_sha256 *h, char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE];
    must(EVP_DigestFinal_ex(h->context, sum, NULL));
    for (int k = 0; k < 32; k++) {
        hex[2 * k] = digits[sum[k] >> 4];
        hex[2 * k + 1] = digits[sum[k] & 15];
    }
    hex[64] = '\0';
    EVP_MD_CTX_free(h->context);
    pipe_free(h);
}

pipe_status pipe_sha256_file(const char *path, char hex[65], pipe_error *err)
{
    enum { CHUNK = 1 << 18 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pipei_fail_errno(err, errno, "%s", path);
    PIPE_CLEANUP(pipe_free_ptr) unsigned char *buffer = pipe_alloc(CHUNK);
    pipe_sha256 *h = pipe_sha256_new();
    pipe_status status = PIPE_OK;
    for (;;) {
        const ssize_t n = read(fd, buffer, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = pipei_fail_errno(err, errno, "%s", path);
        if (n <= 0)
            break;
        pipe_sha256_add(h, buffer, (size_t)n);
    }
    close(fd);
    char sum[65];
    pipe_sha256_finish(h, sum);
    if (status == PIPE_OK)
        memcpy(hex, sum, sizeof sum);
    return status;
}

/* FNV-1a (Fowler, Noll, Vo), then the finalizer of MurmurHash3: FNV's high bits
 * hardly depend on the last bytes, and random streams use all 64. */
uint64_t pipe_hash64(const void *data, size_t n, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;
    for (size_t k = 0; k < n; k++)
        h = (h ^ p[k]) * UINT64_C(0x100000001b3);
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ (h >> 33);
}
