// Figures that the kernel tells in the files of /proc. Any thread.
#ifndef TESTS_SUPPORT_PROC_FILE_H_
#define TESTS_SUPPORT_PROC_FILE_H_

#include <sys/types.h>

#include <cstdint>

namespace tidemark::test {

// Memory that new programs may still have.
int64_t AvailableKib();
// Memory that a process holds; 0 if there is no such process.
int64_t ResidentKib(pid_t pid);

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_PROC_FILE_H_
