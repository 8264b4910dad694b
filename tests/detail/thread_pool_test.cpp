// SPDX-License-Identifier: MIT
// What an operating system may do to threads: refuse to start them, or leave them behind in a fork.
// Each test runs in a child process, under an alarm: what hangs is killed.
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <eigenheads/context.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "context.hpp"
#include "counting.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context;

// Whether `holds` says so in a child of this process, within ten seconds.
[[nodiscard]] bool in_a_child(const std::function<bool()>& holds) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    _exit(holds() ? 0 : 1);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Stacks count as address space, which binds root too, as RLIMIT_NPROC does not.
void leave_address_space(rlim_t bytes) {
  std::ifstream sizes("/proc/self/statm");
  rlim_t pages = 0;
  sizes >> pages;
  const rlim_t limit = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + bytes;
  const rlimit both{limit, limit};
  setrlimit(RLIMIT_AS, &both);
}

TEST(ThreadPool, SaysThatTheSystemStartsNoMoreThreads) {
  if (!kCountsAll) GTEST_SKIP() << "sanitizers need the address space";
  EXPECT_TRUE(in_a_child([] {
    leave_address_space(rlim_t{100} << 20);
    try {
      Context context(1000);
    } catch (const std::runtime_error& error) {
      if (error.what() != std::string("eigenheads: Context: the system starts no more threads; "
                                      "asked for 999 beside the calling one"))
        return false;
      Context context(2);  // and the ones before have ended
      return each_once(context, 100);
    }
    return false;
  }));
}

TEST(ThreadPool, AForkLeavesItBehind) {
  const eh::MultiHeadAttention<float> layer(
      {.num_hiddens = 64, .num_heads = 4, .query_size = 64, .key_size = 64, .value_size = 64});
  const auto x = random_tensor<float>(1, 3, 70, 64);
  for (const int threads : {2, 3}) {
    Context context(threads, kAnyWork);
    const auto expected = layer(x, x, x, {}, context);
    EXPECT_TRUE(in_a_child([&] {
      const auto output = layer(x, x, x, {}, context);
      const bool same = bool{same_bits(output, expected)};
      Context another(threads);  // the child may have threads of its own
      return same && each_once(another, 1000);
    }));
    EXPECT_TRUE(in_a_child([&] {  // the end of a context waits for no thread that is not there
      auto own = std::make_unique<Context>(threads);
      if (!each_once(*own, 1000)) return false;
      return in_a_child([&] {
        own.reset();
        return true;
      });
    }));
    EXPECT_TRUE(same_bits(layer(x, x, x, {}, context), expected));  // and here nothing has changed
  }
}

}  // namespace
