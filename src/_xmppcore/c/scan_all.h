/* SPDX-License-Identifier: Apache-2.0 */
/* All kernels that this compiler can make for this machine's family. */
#ifndef XC_SCAN_ALL_H
#define XC_SCAN_ALL_H

#include "scan_scalar.h"
#if defined(__SSE2__)
#define XC_HAS_SSE2
#include "scan_sse2.h"
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#define XC_HAS_AVX2
#include "scan_avx2.h"
#endif
#if defined(__aarch64__) && defined(__GNUC__)
#define XC_HAS_NEON
#include "scan_neon.h"
#endif

#endif
