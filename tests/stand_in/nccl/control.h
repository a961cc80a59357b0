// The stand-in's own functions, beside NCCL's: found by dlsym in the loaded library. They act on
// this process.
#ifndef DERMIS_TESTS_STAND_IN_NCCL_CONTROL_H_
#define DERMIS_TESTS_STAND_IN_NCCL_CONTROL_H_

namespace dermis {

enum class StandInFault : int {
  kErrorNow = 1,    // The call returns ncclSystemError.
  kErrorLater = 2,  // The call succeeds; the communicator reports ncclRemoteError after it.
  kHang = 3,        // The operation never ends (call 0: the communicator never gets ready).
};

}  // namespace dermis

extern "C" {
// The rank's communicator fails at its call number `call`: 0 is ncclCommInitRankConfig; then each
// of Send, Recv, AllGather and AllReduce counts. For one communicator: the next that the rank
// makes.
void DermisStandInFault(int rank, int call, int fault);
// What ncclGetVersion says from now on (0: 2.28.9 again).
void DermisStandInVersion(int version);
// How many communicators of this process were destroyed, and how many aborted.
int DermisStandInDestroyed();
int DermisStandInAborted();
}

#endif  // DERMIS_TESTS_STAND_IN_NCCL_CONTROL_H_
