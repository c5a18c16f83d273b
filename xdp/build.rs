//! Compiles the XDP program and makes the typed access to its maps.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use libbpf_cargo::SkeletonBuilder;

/// The programs, and the name of the skeleton that each becomes.
const PROGRAMS: [(&str, &str); 2] =
    [("bpf/weir.bpf.c", "weir.skel.rs"), ("bpf/live.bpf.c", "live.skel.rs")];

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    if Command::new("clang").arg("--version").output().is_err() {
        fail("clang is missing");
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let headers = kernel_headers();
    for (source, skeleton) in PROGRAMS {
        let mut builder = SkeletonBuilder::new();
        builder.source(source).clang_args(["-Wall", "-Werror"]);
        if let Some(include) = &headers {
            builder.clang_args([format!("-I{}", include.display())]);
        }
        if let Err(error) = builder.build_and_generate(Path::new(&out).join(skeleton)) {
            fail(&format!("the XDP program {source} does not compile: {error:#}"));
        }
    }
}

/// Where `asm/types.h` is on systems that keep it in a folder named after the architecture, which
/// clang leaves out when it compiles for BPF.
fn kernel_headers() -> Option<PathBuf> {
    let asked = Command::new("clang").arg("-print-multiarch").output().ok();
    let multiarch = asked
        .filter(|answer| answer.status.success())
        .and_then(|answer| String::from_utf8(answer.stdout).ok())
        .map(|name| Path::new("/usr/include").join(name.trim()));
    let has_types = |folder: &PathBuf| folder.join("asm/types.h").exists();
    multiarch.filter(has_types).or_else(|| {
        let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
        let folders = fs::read_dir("/usr/include").ok()?.filter_map(Result::ok);
        folders
            .filter(|folder| folder.file_name().to_string_lossy().starts_with(&arch))
            .map(|folder| folder.path())
            .find(has_types)
    })
}

fn fail(reason: &str) -> ! {
    println!("cargo::error={reason}");
    println!(
        "cargo::error=The XDP program needs clang, the kernel's headers and libelf; \
         on Debian: apt-get install clang libelf-dev zlib1g-dev linux-libc-dev pkg-config gcc make"
    );
    std::process::exit(1);
}
