#include "engine/base/thread.h"

#include <pthread.h>

#include <utility>

#include "engine/base/cooperation.h"

namespace tidemark {

Thread::Thread(std::string name, std::function<void()> body) {
  if (Cooperation* const cooperation = Cooperation::current(); cooperation != nullptr) {
    played_ = cooperation->Spawn(std::move(name), std::move(body));
    return;
  }
  machine_ = std::thread([name = std::move(name), body = std::move(body)] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    body();
  });
}

void Thread::Join() {
  if (played_.has_value()) {
    Cooperation::current()->Join(*played_);
  } else {
    machine_.join();
  }
}

}  // namespace tidemark
