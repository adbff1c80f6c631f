// gRPC asks for the certificate at each handshake, through a function of its C interface that its
// C++ credentials do not offer; so these are credentials of our own, which only add their port.
#include "service/rpc/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <list>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/error.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "service/rpc/limits.h"
#include "service/rpc/token_guard.h"

namespace tidemark::rpc {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

std::unique_ptr<BIO, Free> Open(const std::string& text) {
  return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::unique_ptr<X509, Free> Certificate(const std::string& text) {
  return std::unique_ptr<X509, Free>(
      PEM_read_bio_X509(Open(text).get(), nullptr, nullptr, nullptr));
}

absl::Status Unusable(absl::string_view flag, const std::string& path, absl::string_view why) {
  ERR_clear_error();
  return Error(Reason::kInvalidField, absl::StrCat("Cannot use ", flag, " '", path, "': ", why),
               {{"file", path}});
}

absl::StatusOr<std::string> ReadPem(absl::string_view flag, const std::string& path) {
  absl::StatusOr<std::string> text = ReadSmallFile(path, kCertificateBytesMax);
  if (text.ok() && absl::StrContains(*text, "-----BEGIN")) return text;
  return Unusable(flag, path, "it is not a readable PEM file");
}

absl::StatusOr<Tls::Texts> ReadAll(const Tls::Files& files) {
  Tls::Texts texts;
  ASSIGN_OR_RETURN(texts.cert, ReadPem("--tls_cert", files.cert));
  ASSIGN_OR_RETURN(texts.key, ReadPem("--tls_key", files.key));
  const auto certificate = Certificate(texts.cert);
  if (certificate == nullptr) {
    return Unusable("--tls_cert", files.cert, "it holds no certificate");
  }
  // A key with a passphrase must not make the daemon ask its terminal for it.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(Open(texts.key).get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) return Unusable("--tls_key", files.key, "it holds no key");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Unusable("--tls_key", files.key,
                    absl::StrCat("it is not the key of the certificate in '", files.cert, "'"));
  }
  if (files.client_ca.empty()) return texts;
  ASSIGN_OR_RETURN(texts.client_ca, ReadPem("--tls_client_ca", files.client_ca));
  if (Certificate(texts.client_ca) == nullptr) {
    return Unusable("--tls_client_ca", files.client_ca, "it holds no certificate");
  }
  return texts;
}

// What one listening port has been told.
struct Port {
  std::shared_ptr<const Tls> tls;
  uint64_t generation = 0;
};

grpc_ssl_certificate_config_reload_status Fetch(void* port,
                                                grpc_ssl_server_certificate_config** config) {
  Port& self = *static_cast<Port*>(port);
  Tls::Texts texts;
  if (!self.tls->TakeNewer(&self.generation, &texts)) {
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  }
  const grpc_ssl_pem_key_cert_pair pair{texts.key.c_str(), texts.cert.c_str()};
  // gRPC insists on an authority here, also where clients are asked for nothing.
  const std::string& authority = texts.client_ca.empty() ? texts.cert : texts.client_ca;
  *config = grpc_ssl_server_certificate_config_create(authority.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  ReloadingCredentials(std::shared_ptr<const Tls> tls, std::shared_ptr<const Tokens> tokens)
      : tls_(std::move(tls)), tokens_(std::move(tokens)) {}

  // The guard of tokens is all that there is.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    // The server keeps its credentials for as long as it lives.
    ports_.push_back({tls_});
    grpc_server_credentials* const credentials = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(Request(), &Fetch,
                                                                        &ports_.back()));
    if (tokens_ != nullptr) AskForTokens(credentials, tokens_);
    const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  grpc_ssl_client_certificate_request_type Request() const {
    if (!tls_->asks_clients()) return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    return tokens_ == nullptr ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                              : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
  }

  const std::shared_ptr<const Tls> tls_;
  const std::shared_ptr<const Tokens> tokens_;
  std::list<Port> ports_;  // In their places: gRPC points to them.
};

}  // namespace

absl::StatusOr<std::shared_ptr<Tls>> Tls::Create(Files files) {
  if (files.cert.empty() || files.key.empty()) {
    return Error(Reason::kInvalidCombination, "TLS needs both --tls_cert and --tls_key");
  }
  auto tls = std::shared_ptr<Tls>(new Tls(std::move(files)));
  RETURN_IF_ERROR(tls->Reload());
  return tls;
}

absl::Status Tls::Reload() {
  ASSIGN_OR_RETURN(Texts texts, ReadAll(files_));
  MutexLock lock(&mutex_);
  texts_ = std::move(texts);
  ++generation_;
  return absl::OkStatus();
}

std::shared_ptr<grpc::ServerCredentials> Tls::Credentials(std::shared_ptr<const Tokens> tokens) {
  return std::make_shared<ReloadingCredentials>(shared_from_this(), std::move(tokens));
}

bool Tls::TakeNewer(uint64_t* generation, Texts* texts) const {
  MutexLock lock(&mutex_);
  if (*generation == generation_) return false;
  *generation = generation_;
  *texts = texts_;
  return true;
}

}  // namespace tidemark::rpc
