//! Generates the gRPC code from `proto/`, with a compiler that needs no `protoc`.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 2] = ["envoy/service/auth/v3/external_auth.proto", "scoregate/policy/v1/policy.proto"];

#[expect(clippy::disallowed_methods, reason = "this is how Cargo speaks to build scripts")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_client(true).compile_fds(descriptors)?;
    Ok(())
}
