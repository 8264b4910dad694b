// SPDX-License-Identifier: MIT
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <eigenheads/io/file.hpp>

#include "io/support.hpp"

#if __has_include(<unistd.h>)
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

namespace eh = eigenheads;
namespace fs = std::filesystem;

using File = support::UniqueFolder;

std::string read_refusal(const fs::path& path) {
  return support::file_refusal(path, [&] { (void)eh::read_file(path); });
}
std::string write_refusal(const fs::path& path, std::string_view bytes = "new") {
  return support::file_refusal(path, [&] { eh::write_file(path, bytes); });
}

TEST_F(File, ReadsWhatWasWritten) {
  std::string every_byte;
  for (int c = 0; c < 256; ++c) every_byte += static_cast<char>(c);
  for (const std::string& bytes :
       {std::string(), std::string("x"), every_byte, std::string(3'000'001, '\n')}) {
    eh::write_file(folder_ / "a", bytes);
    EXPECT_EQ(eh::read_file(folder_ / "a"), bytes);
  }
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(File, TakesEveryNameThatTheFileSystemTakes) {
  std::vector<std::string> taken;
  for (std::size_t length = 1; length <= 256; ++length)
    if (length <= 20 || length >= 235)
      for (const char* part : {"n", "\xc3\xa9"}) {
        std::string name;
        while (name.size() < length) name += part;
        if (std::ofstream(folder_ / name).is_open()) taken.push_back(name);
        std::error_code ignored;
        fs::remove(folder_ / name, ignored);
      }
  EXPECT_GT(taken.size(), 60u);
  for (const std::string& name : taken)
    for (const char* content : {"new", "newer"}) {
      EXPECT_EQ(write_refusal(folder_ / name, content), "nothing is refused") << name;
      EXPECT_EQ(eh::read_file(folder_ / name), content) << name;
      EXPECT_EQ(names(), std::set<std::string>{name});
      if (content == std::string("newer")) fs::remove(folder_ / name);
    }
  EXPECT_EQ(write_refusal(folder_ / std::string(256, 'n')), "File name too long");
  EXPECT_EQ(names(), std::set<std::string>{});
}

TEST_F(File, HasUnfinishedNamesThatAreNoLongerThanItsOwn) {
  const auto short_name = [](const std::string& name, unsigned number) {
    return eh::detail::unfinished_name(fs::path("folder") / name, number, true).string();
  };
  EXPECT_EQ(short_name("weights.safetensors", 0), "folder/weights.unfinished0");
  EXPECT_EQ(short_name("weights.safetensors", 12), "folder/weight.unfinished12");
  EXPECT_EQ(short_name("weights.npy", 12), "folder/nfinished12");
  EXPECT_EQ(short_name("a", 12), "folder/2");
  // No character is cut in two.
  EXPECT_EQ(short_name("ab\xe2\x82\xac.safetensor", 0), "folder/ab.unfinished0");
  EXPECT_EQ(short_name("\xe2\x82\xac.safetensors", 1000), "folder/.unfinished1000");
  EXPECT_EQ(eh::detail::unfinished_name("a", 12, false), "a.unfinished12");
}

TEST_F(File, LeavesTheLongNamedFilesOfOthersAlone) {
  const std::string start(244, 'n'), name = start + ".safetensor";
  ASSERT_EQ(name.size(), 255u);
  eh::write_file(folder_ / (start + "unfinished0"), "another program's");
  eh::write_file(folder_ / (start.substr(1) + ".unfinished0"), "another's too");
  for (int i = 0; i < 3; ++i) eh::write_file(folder_ / name, "ours");
  // A file may have the very name that its unfinished form would.
  const std::string itself = start.substr(1) + ".unfinished1";
  eh::write_file(folder_ / itself, "itself");
  EXPECT_EQ(eh::read_file(folder_ / name), "ours");
  EXPECT_EQ(eh::read_file(folder_ / itself), "itself");
  EXPECT_EQ(eh::read_file(folder_ / (start.substr(1) + ".unfinished0")), "another's too");
  EXPECT_EQ(names().size(), 4u);
}

TEST_F(File, RefusesNamesWithAZeroByte) {
  eh::write_file(folder_ / "a", "old");
  const fs::path path = folder_ / std::string("a\0b", 3), shown = folder_ / "a?b";
  const std::string expected = "a zero byte in the name of a file";
  EXPECT_EQ(support::file_refusal(shown, [&] { eh::write_file(path, "new"); }), expected);
  EXPECT_EQ(support::file_refusal(shown, [&] { (void)eh::read_file(path); }), expected);
  EXPECT_EQ(eh::read_file(folder_ / "a"), "old");
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(File, RefusesToReadWhatIsNoFile) {
  EXPECT_EQ(read_refusal(folder_ / "missing"), "No such file or directory");
  EXPECT_EQ(read_refusal(folder_ / "missing" / "a"), "No such file or directory");
  EXPECT_EQ(read_refusal(""), "No such file or directory");
  EXPECT_EQ(read_refusal(folder_), "Is a directory");
}

TEST_F(File, RefusesToWriteWhatIsNoFile) {
  EXPECT_EQ(write_refusal(folder_), "Is a directory");
  EXPECT_EQ(write_refusal(folder_ / "missing" / "a"), "No such file or directory");
  EXPECT_EQ(write_refusal(""), "No such file or directory");
  EXPECT_EQ(write_refusal(folder_ / "missing" / ""), "No such file or directory");
  EXPECT_EQ(write_refusal(folder_ / ""), "Is a directory");
  EXPECT_EQ(write_refusal(folder_ / ".."), "Is a directory");
  EXPECT_EQ(names(), std::set<std::string>{});
}

TEST_F(File, LeavesTheUnfinishedFilesOfOthersAlone) {
  eh::write_file(folder_ / "a.unfinished0", "another program's");
  eh::write_file(folder_ / "a", "ours");
  EXPECT_EQ(eh::read_file(folder_ / "a"), "ours");
  EXPECT_EQ(eh::read_file(folder_ / "a.unfinished0"), "another program's");
  EXPECT_EQ(names(), (std::set<std::string>{"a", "a.unfinished0"}));
}

TEST_F(File, IsWholeWhenThreadsWriteItAtOnce) {
  const fs::path path = folder_ / "a";
  const auto content = [](int thread) {
    return std::string(static_cast<std::size_t>(20'000 + 10'000 * thread),
                       static_cast<char>('a' + thread));
  };
  eh::write_file(path, content(0));
  std::vector<std::thread> writers;
  for (int thread = 0; thread < 4; ++thread)
    writers.emplace_back([&, thread] {
      for (int i = 0; i < 100; ++i) eh::write_file(path, content(thread));
    });
  for (std::thread& writer : writers) writer.join();
  const std::string last = eh::read_file(path);
  EXPECT_EQ(last, content(last[0] - 'a'));
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

#if __has_include(<unistd.h>)

// As a user whom permissions bind: root is none, and where it cannot become one it does nothing.
template <class Action>
void as_ordinary_user(Action action) {
  const bool is_root = geteuid() == 0;
  if (is_root && seteuid(65534) != 0) return;
  action();
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
}

TEST_F(File, RefusesWhatItMayNotRead) {
  eh::write_file(folder_ / "a", "old");
  fs::permissions(folder_ / "a", fs::perms::none);
  as_ordinary_user([&] { EXPECT_EQ(read_refusal(folder_ / "a"), "Permission denied"); });
  fs::permissions(folder_, fs::perms::none);
  as_ordinary_user([&] { EXPECT_EQ(read_refusal(folder_ / "a"), "Permission denied"); });
}

TEST_F(File, RefusesToReplaceAReadOnlyFile) {
  eh::write_file(folder_ / "a", "old");
  fs::permissions(folder_ / "a", fs::perms(0444));
  fs::permissions(folder_, fs::perms::all);
  as_ordinary_user([&] { EXPECT_EQ(write_refusal(folder_ / "a"), "Permission denied"); });
  EXPECT_EQ(eh::read_file(folder_ / "a"), "old");
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(File, RefusesAFolderThatAllowsNoNewFile) {
  eh::write_file(folder_ / "a", "old");
  fs::permissions(folder_ / "a", fs::perms::all);
  fs::permissions(folder_, fs::perms(0555));
  as_ordinary_user([&] { EXPECT_EQ(write_refusal(folder_ / "a"), "Permission denied"); });
  EXPECT_EQ(eh::read_file(folder_ / "a"), "old");
}

TEST_F(File, KeepsItsPermissions) {
  eh::write_file(folder_ / "a", "old");
  for (const fs::perms mode : {fs::perms(0600), fs::perms(0644), fs::perms(0666)}) {
    fs::permissions(folder_ / "a", mode);
    eh::write_file(folder_ / "a", "new");
    EXPECT_EQ(fs::status(folder_ / "a").permissions(), mode);
  }
}

TEST_F(File, IsReadAndWrittenThroughASymbolicLink) {
  fs::create_directory(folder_ / "elsewhere");
  const fs::path target = folder_ / "elsewhere" / "target";
  eh::write_file(target, "old");
  fs::create_symlink("elsewhere/target", folder_ / "link");
  fs::create_symlink("link", folder_ / "link to link");
  EXPECT_EQ(eh::read_file(folder_ / "link to link"), "old");
  eh::write_file(folder_ / "link to link", "new");
  EXPECT_EQ(eh::read_file(target), "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link to link"));

  fs::create_symlink("nowhere", folder_ / "dangling");
  EXPECT_EQ(read_refusal(folder_ / "dangling"), "No such file or directory");
  EXPECT_EQ(write_refusal(folder_ / "dangling"), "No such file or directory");
  fs::create_symlink("loop", folder_ / "loop");
  EXPECT_EQ(read_refusal(folder_ / "loop"), "Too many levels of symbolic links");
  EXPECT_EQ(write_refusal(folder_ / "loop"), "Too many levels of symbolic links");
}

TEST_F(File, RefusesDevicesAndPipesWithoutWaiting) {
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_refusal(folder_ / "pipe"), "not a regular file");
  EXPECT_EQ(write_refusal(folder_ / "pipe"), "not a regular file");
  EXPECT_EQ(read_refusal("/dev/zero"), "not a regular file");
  // A device of its own: whoever may, and has a fault, would put a file in the system's place.
  if (mknod((folder_ / "null").c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) {
    EXPECT_EQ(write_refusal(folder_ / "null"), "not a regular file");
    EXPECT_TRUE(fs::is_character_file(folder_ / "null"));
    fs::remove(folder_ / "null");
  } else if (geteuid() != 0) {
    EXPECT_EQ(write_refusal("/dev/null"), "not a regular file");
  }
  EXPECT_EQ(names(), std::set<std::string>{"pipe"});
}

TEST_F(File, RefusesAFileThatGrowsWhileItIsRead) {
  // Says that it is empty, and is not.
  if (fs::exists("/proc/self/status")) {
    EXPECT_EQ(read_refusal("/proc/self/status"), "changed while it was read");
  }
}

TEST_F(File, SaysThatTheDiskIsFull) {
  if (!fs::exists("/dev/full")) return;
  eh::detail::File full("/dev/full", "wb");
  EXPECT_EQ(support::file_refusal("/dev/full", [&] { full.write("x"); }),
            "No space left on device");
}

TEST_F(File, IsTheOldOneWhenTheNewOneDoesNotFit) {
  eh::write_file(folder_ / "a", "old");
  const auto ignored_before = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 100'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string existing = write_refusal(folder_ / "a", std::string(1'000'000, 'x'));
  const std::string absent = write_refusal(folder_ / "b", std::string(1'000'000, 'x'));
  const std::string long_named =
      write_refusal(folder_ / std::string(255, 'n'), std::string(1'000'000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, ignored_before);
  EXPECT_EQ(existing, "File too large");
  EXPECT_EQ(absent, "File too large");
  EXPECT_EQ(long_named, "File too large");
  EXPECT_EQ(eh::read_file(folder_ / "a"), "old");
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(File, IsWholeWhenProgramsWriteItAtOnce) {
  const fs::path path = folder_ / "a";
  std::vector<pid_t> children;
  for (int child = 0; child < 3; ++child) {
    const pid_t id = fork();
    ASSERT_GE(id, 0);
    if (id == 0) {
      try {
        for (int i = 0; i < 100; ++i)
          eh::write_file(path, std::string(100'000, static_cast<char>('a' + child)));
      } catch (const eh::FileError&) {
        _exit(1);
      }
      _exit(0);
    }
    children.push_back(id);
  }
  for (const pid_t id : children) {
    int status = -1;
    ASSERT_EQ(waitpid(id, &status, 0), id);
    EXPECT_EQ(status, 0);
  }
  const std::string last = eh::read_file(path);
  EXPECT_EQ(last, std::string(100'000, last[0]));
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

// A signal every millisecond, handled without SA_RESTART: calls return early with EINTR.
volatile sig_atomic_t signals = 0;

class Interruptions {
 public:
  Interruptions() {
    signals = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { signals = signals + 1; };
    sigaction(SIGALRM, &action, nullptr);
    const itimerval every{{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &every, nullptr);
  }
  // The last signal may still be on its way, and ends a program that does not handle it: the action stays.
  ~Interruptions() {
    const itimerval never{};
    setitimer(ITIMER_REAL, &never, nullptr);
  }
};

// At the other end of a pipe, in a program that the signals do not reach.
template <class Action>
pid_t in_another_program(Action action) {
  const pid_t id = fork();
  if (id == 0) {
    action();
    _exit(0);
  }
  return id;
}

TEST_F(File, GoesOnReadingAfterASignal) {
  const std::string path = (folder_ / "pipe").string();
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const pid_t writer = in_another_program([&] {
    std::FILE* pipe = std::fopen(path.c_str(), "wb");
    for (int i = 0; i < 10; ++i) {
      usleep(5000);
      std::fwrite("0123456789", 1, 10, pipe);
      std::fflush(pipe);
    }
  });
  std::string bytes(100, '\0');
  {
    eh::detail::File pipe(path, "rb");
    const Interruptions interruptions;
    pipe.read(bytes.data(), bytes.size());
    pipe.require_end();
  }
  EXPECT_GT(signals, 0);
  std::string expected;
  for (int i = 0; i < 10; ++i) expected += "0123456789";
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(waitpid(writer, nullptr, 0), writer);
}

TEST_F(File, GoesOnWritingAfterASignal) {
  const std::string path = (folder_ / "pipe").string();
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::string bytes;
  for (int i = 0; i < 40'000; ++i) bytes += std::to_string(i) + "\n";
  const pid_t reader = in_another_program([&] {
    std::FILE* pipe = std::fopen(path.c_str(), "rb");
    std::string got;
    std::array<char, 20'000> some{};
    while (const std::size_t count = std::fread(some.data(), 1, some.size(), pipe)) {
      usleep(3000);
      got.append(some.data(), count);
    }
    _exit(got == bytes ? 0 : 1);
  });
  {
    eh::detail::File pipe(path, "wb");
    const Interruptions interruptions;
    pipe.write(bytes);
    pipe.close();
  }
  EXPECT_GT(signals, 0);
  int status = -1;
  EXPECT_EQ(waitpid(reader, &status, 0), reader);
  EXPECT_EQ(status, 0);
}

#endif

}  // namespace
