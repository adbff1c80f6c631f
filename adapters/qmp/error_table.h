// From what QEMU says when it refuses to what Tidemark says: one table of QEMU's texts. Any thread.
//
// QEMU tells its refusals apart by English sentences alone. Each row of the table holds such a
// sentence, with holes where names and values stand, and the reason that the native engine gives in
// the same place. A text that no row knows is a refusal too: QEMU_REFUSED, with QEMU's own words.
#ifndef ADAPTERS_QMP_ERROR_TABLE_H_
#define ADAPTERS_QMP_ERROR_TABLE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/error.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

// What a client is told of QEMU's {"class", "desc"}. The message is QEMU's text; the metadata holds
// "qmp_class", "qmp_desc" (the text, word by word) and what the text names ("node", "bitmap",
// "job", "field", ...). Never OK.
absl::Status FromQemu(absl::string_view error_class, absl::string_view text);

// The same, of the answer to `request`, the arguments of `command` (QMP's name). The message also
// says what was attempted on which objects, as the request names them, and with which value of the
// field that is at fault; the metadata is completed with the node, the bitmap, the job or the
// export if the text does not name it. QEMU says "Job not found"; a client wants to know which.
absl::Status FromQemu(absl::string_view error_class, absl::string_view text,
                      absl::string_view command, const google::protobuf::Message& request);

// What is refused without QEMU, in the words and for the reason that QEMU would have. The message
// says that QEMU was not asked; there is no "qmp_desc".
absl::Status AsQemuWould(absl::string_view error_class, absl::string_view text,
                         absl::string_view command, const google::protobuf::Message& request);

// Of a refusal that QEMU gave only because the images of the virtual machine are inactive, without
// knowing it: says so, and why (kMachineState).
absl::Status OfInactive(const absl::Status& refusal);

// Why a job failed, by the text that QEMU keeps with it: "No space left on device".
Reason ReasonOfText(absl::string_view text);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_ERROR_TABLE_H_
