// The state directory's lock: one process at a time, whatever way the last one ended. The file also
// holds one flag that can be set when the disk is full.
#pragma once

#include <filesystem>
#include <string>

#include "router/model/result.hpp"

namespace banyan::router {

class LockFile {
   public:
    LockFile() = default;
    ~LockFile();
    LockFile(const LockFile&) = delete;
    LockFile& operator=(const LockFile&) = delete;

    /// Fails with a sentence that names the directory and the process that has it.
    Result<void> take(const std::filesystem::path& directory);

    /// What the flag was when the lock was taken.
    bool lost() const { return lost_; }
    void set_lost(bool lost);
    /// Device and inode: who holds a lock with the same ones, on the same machine, holds this one.
    std::string identity() const;

   private:
    int fd_ = -1;  // the lock is the open file description's, so it ends with the process
    bool lost_ = false;
};

}  // namespace banyan::router
