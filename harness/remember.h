/* Lines KEY=VALUE in a device's file under the cache folder: what was probed, which kernel shape
 * won a roof. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_REMEMBER_H
#define KF_REMEMBER_H
#include <kfuse/kfuse.h>

/* false when the file has no such line, or could have been written by somebody else. */
bool kf_recall(const kf_device_info *info, const char *key, char *value, size_t bytes);
/* Replaces or adds one line; the file is written anew, renamed into place and readable by its owner
 * only. No usable folder is no failure: what cannot be remembered is measured again. */
kf_status kf_remember(const kf_device_info *info, const char *key, const char *value);
#endif
