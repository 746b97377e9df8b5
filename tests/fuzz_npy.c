/* Fuzz target: any bytes as the header of a .npy file. Mistakes caught: reads past the end, sizes
 * that overflow, a header that claims more than there is. tests/test_npy.c replays the corpus
 * without libFuzzer. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "../harness/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kf_tensor tensor;
    char descr[16];
    bool fortran;
    size_t data_at;
    int64_t extent, bytes = 8;
    uint8_t *exact =
        malloc(size + (size == 0)); /* not a byte more: the sanitizer sees every overrun */
    demand(exact != NULL);
    memcpy(exact, data, size);
    const kf_status status = kf_npy_header(exact, size, &tensor, descr, &fortran, &data_at);
    free(exact);
    demand(status == KF_OK || status == KF_IO || status == KF_INVALID);
    if (status != KF_OK) {
        demand(strlen(kf_error()) > 10);
        return 0;
    }
    demand(data_at <= size && memchr(descr, 0, sizeof descr) != NULL);
    demand(tensor.rank >= 0 && tensor.rank <= KF_MAX_RANK && kf_dtype_bytes(tensor.dtype) > 0);
    for (int i = 0; i < tensor.rank; i++)
        demand(tensor.size[i] >= 0 &&
               !__builtin_mul_overflow(bytes, tensor.size[i] ? tensor.size[i] : 1, &bytes));
    demand(kf_tensor_extent(&tensor, &extent) != KF_OK || extent <= bytes / 8);
    return 0;
}
