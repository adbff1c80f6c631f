// For tests: certificates made by the openssl command, in a folder: NAME.pem and NAME.key.
#ifndef SERVICE_RPC_CERTIFICATES_H_
#define SERVICE_RPC_CERTIFICATES_H_

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"

namespace tidemark::rpc {

class Certificates {
 public:
  static bool CanBeMade() { return std::system("openssl version > /dev/null 2>&1") == 0; }

  explicit Certificates(std::string folder) : folder_(std::move(folder)) {}

  void MakeAuthority(const std::string& name) {
    Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
        "/CN=" +
        name + " -keyout " + name + ".key -out " + name + ".pem");
  }
  // For localhost and 127.0.0.1, with `common_name`.
  void Make(const std::string& name, const std::string& authority,
            const std::string& common_name = "localhost") {
    Run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=" +
        common_name + " -keyout " + name + ".key -out " + name +
        ".csr && printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > " + name +
        ".ext && openssl x509 -req -in " + name + ".csr -CA " + authority + ".pem -CAkey " +
        authority + ".key -CAcreateserial -days 2 -extfile " + name + ".ext -out " + name + ".pem");
  }
  void Run(const std::string& command) {
    ASSERT_EQ(std::system(("cd " + folder_ + " && " + command + " 2> /dev/null").c_str()), 0)
        << command;
  }

  std::string Text(const std::string& file) const {
    std::ifstream stream(folder_ + "/" + file);
    std::stringstream text;
    text << stream.rdbuf();
    return text.str();
  }
  // Of a client that trusts `authority` and shows the certificate `name`, if that is not empty.
  std::shared_ptr<grpc::ChannelCredentials> Client(const std::string& name,
                                                   const std::string& authority = "ca") const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = Text(authority + ".pem");
    if (!name.empty()) {
      options.pem_cert_chain = Text(name + ".pem");
      options.pem_private_key = Text(name + ".key");
    }
    return grpc::SslCredentials(options);
  }

 private:
  const std::string folder_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_CERTIFICATES_H_
