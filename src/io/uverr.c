/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <uv.h>

/* On Unix libuv's numbers are negated errno, but for the few that errno does not know. */
enum err err_from_uv(int number)
{
    if (number >= 0)
        return ERR_OK;
    switch (number) {
    case UV_EOF:
        return ERR_CLOSED;
    case UV_EAI_ADDRFAMILY:
    case UV_EAI_AGAIN:
    case UV_EAI_BADFLAGS:
    case UV_EAI_FAIL:
    case UV_EAI_FAMILY:
    case UV_EAI_NODATA:
    case UV_EAI_NONAME:
    case UV_EAI_OVERFLOW:
    case UV_EAI_PROTOCOL:
    case UV_EAI_SERVICE:
    case UV_EAI_SOCKTYPE:
    case UV_ECHARSET:
        return ERR_RESOLVE;
    case UV_EAI_MEMORY:
        return ERR_NOMEM;
    case UV_EAI_CANCELED:
        return ERR_CANCELLED;
    default:
        return err_from_errno(-number);
    }
}
