//! Generates the client from the protos. protox compiles protos in Rust, so no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = protox::compile(["sms/gateway/v1/gateway.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .include_file("protos.rs")
        .compile_fds(protos)?;
    println!("cargo::rerun-if-changed=../../proto");
    Ok(())
}
