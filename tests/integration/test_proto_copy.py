"""A copy of the folder `proto` is all that a client needs, with protoc and with buf."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-a-client.md").read_text()
BUF = str(pathlib.Path(sys.executable).with_name("buf"))
OURS = {"sms/gateway/v1/gateway.proto", "sms/gateway/v1/message.proto"}


def run(folder: pathlib.Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a copy of `proto` and nothing else."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    return tmp_path


def test_copy_has_the_api_and_what_it_imports_and_no_record_of_the_stream(copy: pathlib.Path) -> None:
    files = {str(path.relative_to(copy / "proto")) for path in copy.rglob("*.proto")}
    assert {file for file in files if file.startswith("sms/")} == OURS
    imported = {
        name
        for file in files
        for name in re.findall(r'^import "(.*)";', (copy / "proto" / file).read_text(), re.MULTILINE)
    }
    assert {name for name in imported if not name.startswith("google/protobuf/")} <= files


def test_protoc_makes_a_python_client_without_a_second_google_rpc(copy: pathlib.Path) -> None:
    (copy / "gen").mkdir()
    protos = [*sorted(OURS), "buf/validate/validate.proto"]
    protoc = ("-m", "grpc_tools.protoc", "-I", "proto", "--python_out", "gen", "--grpc_python_out", "gen")
    run(copy, sys.executable, *protoc, *(f"proto/{name}" for name in protos))
    assert not (copy / "gen" / "google").exists()
    code = (
        "import sys; sys.path.insert(0, 'gen')\n"
        "from google.rpc import status_pb2, error_details_pb2\n"
        "from sms.gateway.v1 import gateway_pb2, gateway_pb2_grpc\n"
        "print(gateway_pb2.BatchSendResult(error=status_pb2.Status(code=3)).error.code, gateway_pb2.__file__)"
    )
    code_and_file = run(copy, sys.executable, "-P", "-c", code).split()
    assert code_and_file[0] == "3"


def test_buf_makes_only_the_api_when_it_is_asked_for_the_api(copy: pathlib.Path) -> None:
    (copy / "buf.gen.yaml").write_text(
        "version: v2\ninputs: [{directory: proto, paths: [proto/sms]}]\n"
        "plugins: [{protoc_builtin: python, out: gen, protoc_path: python-grpc-tools-protoc}]\n"
    )
    environment = {"PATH": f"{pathlib.Path(BUF).parent}:/usr/bin:/bin", "HOME": str(copy)}
    command = [BUF, "generate"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = {str(path.relative_to(copy / "gen")) for path in copy.glob("gen/**/*.py")}
    assert made == {"sms/gateway/v1/gateway_pb2.py", "sms/gateway/v1/message_pb2.py"}


def test_every_public_proto_names_the_packages_of_its_code(copy: pathlib.Path) -> None:
    built = copy / "image.binpb"
    run(copy, BUF, "build", "proto", "--as-file-descriptor-set", "-o", str(built))
    files = {one.name: one.options for one in FileDescriptorSet.FromString(built.read_bytes()).file}
    for name in OURS:
        options = files[name]
        assert options.go_package == "sms.gateway/sms/gateway/v1;gatewayv1"
        assert (options.java_package, options.java_multiple_files) == ("sms.gateway.v1", True)
        assert (options.csharp_namespace, options.php_namespace) == ("Sms.Gateway.V1", r"Sms\Gateway\V1")
        assert (options.ruby_package, options.objc_class_prefix) == ("Sms::Gateway::V1", "SGW")
    assert len({files[name].java_outer_classname for name in OURS}) == len(OURS)
    vendored = [name for name in files if name not in OURS and not name.startswith("google/protobuf/")]
    assert vendored
    assert all(files[name].go_package for name in vendored), "their packages are those of the libraries"


BLOCKS = re.findall(r"^```(yaml|xml|rust|js)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
EXAMPLE_OF = {
    "protoc-gen-go-grpc": "go/buf.gen.yaml",
    "protoc-gen-es": "typescript/buf.gen.yaml",
    "protoSourceRoot": "java/pom.xml",
    "protox": "rust/build.rs",
    "protoLoader": "grpc-js/client.mjs",
}


def words(text: str) -> set[str]:
    """The words of a piece of configuration, in whatever way it is laid out; `proto` stands beside a copy."""
    text = text.replace("${protos}", "${project.basedir}/proto").replace("../../", "")
    return {word.rstrip(":") for word in re.findall(r"[\w./*:-]+", text)} - {"-", ""}


@pytest.mark.parametrize("mark", EXAMPLE_OF)
def test_page_shows_what_the_example_does_in_at_most_five_lines(mark: str) -> None:
    (block,) = [text for _, text in BLOCKS if mark in text]
    assert len(block.splitlines()) <= 5
    example = (ROOT / "examples" / EXAMPLE_OF[mark]).read_text()
    assert words(block) <= words(example)
