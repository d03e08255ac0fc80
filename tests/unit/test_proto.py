"""The wire format: a field's number, type and name never change, because clients rely on them."""

from google.protobuf.descriptor import FieldDescriptor

from protos import classifier_pb2 as pb

KINDS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
}

MESSAGES = {
    "ClassifyRequest": [
        "1 bytes image", "2 uint32 top_k", "3 string request_id", "4 uint32 priority",
        "5 string version", "6 uint32 timeout_ms", "7 float min_probability",
        "8 repeated string labels", "9 bool kinds", "10 uint32 views", "11 string explain",
    ],
    "ClassifyResponse": [
        "1 repeated Prediction predictions",
        "2 ModelVersion model",
        "3 Image image",
        "4 Timing timing",
        "5 string request_id",
        "6 repeated Kind kinds",
        "7 Explanation explanation",
        "8 bool cached",
    ],
    "Kind": ["1 string synset", "2 string label", "3 float probability"],
    "Explanation": [
        "1 string method", "2 uint32 index", "3 string synset", "4 string label", "5 uint32 rows",
        "6 repeated float grid", "7 float largest_drop",
    ],
    "ClassifyStreamResponse": [
        "1 string request_id", "2 ClassifyResponse response", "3 Failure failure",
    ],
    "Failure": ["1 int32 code", "2 string reason", "3 string message", "4 uint32 retry_after_ms"],
    "Prediction": ["1 uint32 index", "2 string synset", "3 string label", "4 float probability"],
    "ModelVersion": ["1 string name", "2 string version", "3 string build"],
    "Image": [
        "1 string format", "2 uint32 width", "3 uint32 height", "4 string mode",
        "5 uint32 orientation", "6 string icc", "7 uint32 frames", "8 repeated string warnings",
    ],
    "Timing": [
        "1 float decode_ms", "2 float queue_ms", "3 float infer_ms", "4 float total_ms",
        "5 uint32 batch_size", "6 float upload_ms", "7 float decode_queue_ms",
        "8 float batch_queue_ms",
    ],
    "GetModelRequest": ["1 string version"],
    "Model": [
        "1 string name", "2 string version", "3 uint32 classes", "4 uint32 known_classes",
        "5 float top1", "6 float top5", "7 string measured_on", "8 string precision",
        "9 uint32 crop", "10 string build", "11 repeated string versions",
    ],
}  # fmt: skip


def line(field: FieldDescriptor) -> str:
    kind = field.message_type.name if field.message_type else KINDS[field.type]
    return f"{field.number} {'repeated ' if field.is_repeated else ''}{kind} {field.name}"


def test_the_messages_and_their_field_numbers_are_frozen() -> None:
    found = {
        name: [line(f) for f in sorted(message.fields, key=lambda f: f.number)]
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    assert found == MESSAGES


def test_the_service_and_its_methods_are_frozen() -> None:
    service = pb.DESCRIPTOR.services_by_name["Classifier"]
    assert service.full_name == "alexnet.v1.Classifier"
    methods = [
        (m.name, m.input_type.name, m.output_type.name, m.client_streaming, m.server_streaming)
        for m in service.methods
    ]
    assert methods == [
        ("Classify", "ClassifyRequest", "ClassifyResponse", False, False),
        ("ClassifyStream", "ClassifyRequest", "ClassifyStreamResponse", True, True),
        ("GetModel", "GetModelRequest", "Model", False, False),
    ]


def test_an_absent_top_k_differs_from_zero() -> None:
    assert not pb.ClassifyRequest().HasField("top_k")
    assert pb.ClassifyRequest.FromString(pb.ClassifyRequest(top_k=0).SerializeToString()).HasField(
        "top_k"
    )


def test_a_request_as_bytes_on_the_wire() -> None:
    request = pb.ClassifyRequest(image=b"photo", top_k=3, request_id="a")
    assert request.SerializeToString() == b"\x0a\x05photo\x10\x03\x1a\x01a"
