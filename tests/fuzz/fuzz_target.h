// What a fuzzing engine calls with bytes of its own making: libFuzzer (clang), or replay_main.cc,
// which every run of the tests does. A target takes any bytes, never fails, and ends the process
// when the program itself is wrong.
#ifndef TESTS_FUZZ_FUZZ_TARGET_H_
#define TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>

// The name is libFuzzer's. Always returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes);

#endif  // TESTS_FUZZ_FUZZ_TARGET_H_
