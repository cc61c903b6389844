/* sweep.h - how densely a test goes through "the n-th operation fails", "byte n is damaged".
 *
 * In the plain build through all of them. Under a sanitizer a round takes ten times as long, and which of them it is
 * makes no difference to what sanitizers look for: there every SWEEP_STEP-th will do. */
#ifndef COFFER_TESTS_SWEEP_H
#define COFFER_TESTS_SWEEP_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SWEEP_STEP (SANITIZED ? 7 : 1)

#endif
