//! Compiles the `.proto` files without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 4] = [
    "weir/dataplane/v1/dataplane.proto",
    "weir/nf/v1/nf.proto",
    "weir/v1/weir.proto",
    "weir/v1/state.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), set.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    // Each message knows its full name, so that proto3 JSON finds its descriptor.
    config.enable_type_names();
    // An event is small beside it, and comes more often.
    config.boxed(".weir.v1.NotifyResponse.note.operation");
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}
