"""The Open Inference Protocol on the wire: what we declare has the public protocol's numbers.

tests/service/tritonclient/ compares the same with the descriptors of Triton's own client.
"""

import re
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from protos import oip_pb2 as pb

MESSAGES = """
ServerLiveRequest:
ServerLiveResponse: 1 bool live
ServerReadyRequest:
ServerReadyResponse: 1 bool ready
ModelReadyRequest: 1 string name; 2 string version
ModelReadyResponse: 1 bool ready
ServerMetadataRequest:
ServerMetadataResponse: 1 string name; 2 string version; 3 repeated string extensions
ModelMetadataRequest: 1 string name; 2 string version
ModelMetadataResponse: 1 string name; 2 repeated string versions; 3 string platform; 4 repeated
  ModelMetadataResponse.TensorMetadata inputs; 5 repeated ModelMetadataResponse.TensorMetadata
  outputs
ModelMetadataResponse.TensorMetadata: 1 string name; 2 string datatype; 3 repeated int64 shape
InferParameter: 1 bool bool_param; 2 int64 int64_param; 3 string string_param; 4 double
  double_param; 5 uint64 uint64_param
InferTensorContents: 1 repeated bool bool_contents; 2 repeated int32 int_contents; 3 repeated
  int64 int64_contents; 4 repeated uint32 uint_contents; 5 repeated uint64 uint64_contents; 6
  repeated float fp32_contents; 7 repeated double fp64_contents; 8 repeated bytes bytes_contents
ModelInferRequest: 1 string model_name; 2 string model_version; 3 string id; 4 map<string,
  InferParameter> parameters; 5 repeated ModelInferRequest.InferInputTensor inputs; 6 repeated
  ModelInferRequest.InferRequestedOutputTensor outputs; 7 repeated bytes raw_input_contents
ModelInferRequest.InferInputTensor: 1 string name; 2 string datatype; 3 repeated int64 shape; 4
  map<string, InferParameter> parameters; 5 InferTensorContents contents
ModelInferRequest.InferRequestedOutputTensor: 1 string name; 2 map<string, InferParameter>
  parameters
ModelInferResponse: 1 string model_name; 2 string model_version; 3 string id; 4 map<string,
  InferParameter> parameters; 5 repeated ModelInferResponse.InferOutputTensor outputs; 6 repeated
  bytes raw_output_contents
ModelInferResponse.InferOutputTensor: 1 string name; 2 string datatype; 3 repeated int64 shape; 4
  map<string, InferParameter> parameters; 5 InferTensorContents contents
ModelStreamInferResponse: 1 string error_message; 2 ModelInferResponse infer_response
ModelConfigRequest: 1 string name; 2 string version
ModelConfigResponse: 1 ModelConfig config
ModelInput: 1 string name; 2 DataType data_type; 3 ModelInput.Format format; 4 repeated int64 dims
ModelOutput: 1 string name; 2 DataType data_type; 3 repeated int64 dims; 4 string label_filename
ModelQueuePolicy: 1 ModelQueuePolicy.TimeoutAction timeout_action; 2 uint64
  default_timeout_microseconds; 3 bool allow_timeout_override; 4 uint32 max_queue_size
ModelDynamicBatching: 1 repeated int32 preferred_batch_size; 2 uint64
  max_queue_delay_microseconds; 4 uint64 priority_levels; 5 uint64 default_priority_level; 6
  ModelQueuePolicy default_queue_policy
ModelTransactionPolicy: 1 bool decoupled
ModelConfig: 1 string name; 2 string platform; 4 int32 max_batch_size; 5 repeated ModelInput
  input; 6 repeated ModelOutput output; 8 string default_model_filename; 11 ModelDynamicBatching
  dynamic_batching; 17 string backend; 19 ModelTransactionPolicy model_transaction_policy
ModelStatisticsRequest: 1 string name; 2 string version
ModelStatisticsResponse: 1 repeated ModelStatistics model_stats
StatisticDuration: 1 uint64 count; 2 uint64 ns
InferStatistics: 1 StatisticDuration success; 2 StatisticDuration fail; 3 StatisticDuration queue;
  4 StatisticDuration compute_input; 5 StatisticDuration compute_infer; 6 StatisticDuration
  compute_output; 7 StatisticDuration cache_hit; 8 StatisticDuration cache_miss
InferBatchStatistics: 1 uint64 batch_size; 2 StatisticDuration compute_input; 3 StatisticDuration
  compute_infer; 4 StatisticDuration compute_output
ModelStatistics: 1 string name; 2 string version; 3 uint64 last_inference; 4 uint64
  inference_count; 5 uint64 execution_count; 6 InferStatistics inference_stats; 7 repeated
  InferBatchStatistics batch_stats
ModelRepositoryParameter: 1 bool bool_param; 2 int64 int64_param; 3 string string_param; 4 bytes
  bytes_param
RepositoryIndexRequest: 1 string repository_name; 2 bool ready
RepositoryIndexResponse: 1 repeated RepositoryIndexResponse.ModelIndex models
RepositoryIndexResponse.ModelIndex: 1 string name; 2 string version; 3 string state; 4 string
  reason
RepositoryModelLoadRequest: 1 string repository_name; 2 string model_name; 3 map<string,
  ModelRepositoryParameter> parameters
RepositoryModelLoadResponse:
RepositoryModelUnloadRequest: 1 string repository_name; 2 string model_name; 3 map<string,
  ModelRepositoryParameter> parameters
RepositoryModelUnloadResponse:
"""

ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11, "TYPE_STRING": 13},
    "ModelInput.Format": {"FORMAT_NONE": 0, "FORMAT_NHWC": 1},
    "ModelQueuePolicy.TimeoutAction": {"REJECT": 0},
}

METHODS = """
ServerLive ServerLiveRequest -> ServerLiveResponse
ServerReady ServerReadyRequest -> ServerReadyResponse
ModelReady ModelReadyRequest -> ModelReadyResponse
ServerMetadata ServerMetadataRequest -> ServerMetadataResponse
ModelMetadata ModelMetadataRequest -> ModelMetadataResponse
ModelInfer ModelInferRequest -> ModelInferResponse
ModelStreamInfer stream ModelInferRequest -> stream ModelStreamInferResponse
ModelConfig ModelConfigRequest -> ModelConfigResponse
ModelStatistics ModelStatisticsRequest -> ModelStatisticsResponse
RepositoryIndex RepositoryIndexRequest -> RepositoryIndexResponse
RepositoryModelLoad RepositoryModelLoadRequest -> RepositoryModelLoadResponse
RepositoryModelUnload RepositoryModelUnloadRequest -> RepositoryModelUnloadResponse
"""

SCALARS = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def line(field: FieldDescriptor) -> str:
    kind = field.message_type or field.enum_type
    text = kind.full_name.removeprefix("inference.") if kind else SCALARS[field.type]
    if field.message_type and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"].message_type
        return f"{field.number} map<string, {value and value.name}> {field.name}"
    return f"{field.number} {'repeated ' if field.is_repeated else ''}{text} {field.name}"


def messages(found: list[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        if not message.GetOptions().map_entry:
            yield message
            yield from messages(list(message.nested_types))


ALL = list(messages(list(pb.DESCRIPTOR.message_types_by_name.values())))


def test_the_messages_and_their_field_numbers_are_frozen() -> None:
    found = [
        f"{message.full_name.removeprefix('inference.')}: "
        + "; ".join(line(f) for f in sorted(message.fields, key=lambda f: f.number))
        for message in ALL
    ]
    expected = re.sub(r"\n +", " ", MESSAGES).strip().split("\n")
    assert [text.rstrip() for text in found] == [text.rstrip() for text in expected]


def test_the_enumerations_are_frozen() -> None:
    enums = [*pb.DESCRIPTOR.enum_types_by_name.values(), *(e for m in ALL for e in m.enum_types)]
    found = {
        enum.full_name.removeprefix("inference."): {v.name: v.number for v in enum.values}
        for enum in enums
    }
    assert found == ENUMS


def test_the_choices_of_a_parameter_exclude_each_other() -> None:
    parameter = pb.InferParameter(bool_param=True)
    parameter.int64_param = 3
    assert parameter.WhichOneof("parameter_choice") == "int64_param"


def test_the_service_and_its_methods_are_frozen() -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == "inference.GRPCInferenceService"
    found = [
        f"{m.name} {'stream ' * m.client_streaming}{m.input_type.name} -> "
        f"{'stream ' * m.server_streaming}{m.output_type.name}"
        for m in service.methods
    ]
    assert found == METHODS.strip().split("\n")
