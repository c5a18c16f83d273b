//! gRPC definitions and stubs of the Weir router.
//!
//! [`dataplane::v1`] is the southbound API that a data plane serves on its Unix socket; [`v1`] is
//! the northbound API that the sidecar serves; [`nf::v1`] is what a network function in a process
//! of its own serves. The comments of the `.proto` files are the reference. [`preface`] is what the
//! servers ask of a connection, [`socket`] where they serve the peers of their machine, [`refusal`] how
//! they refuse a request, and [`causes`] how all tell of an error.
#![forbid(unsafe_code)]

pub mod causes;
pub mod preface;
pub mod refusal;
pub mod socket;

/// The southbound API, `weir.dataplane.*`.
pub mod dataplane {
    /// Version 1 of the southbound API.
    #[expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated from the .proto file"
    )]
    pub mod v1 {
        tonic::include_proto!("weir.dataplane.v1");
    }
}

/// The southbound API of network functions in processes of their own, `weir.nf.*`.
pub mod nf {
    /// Version 1 of the southbound API of network functions.
    #[expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated from the .proto file"
    )]
    pub mod v1 {
        tonic::include_proto!("weir.nf.v1");
    }
}

/// Version 1 of the northbound API, `weir.v1`.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated from the .proto file"
)]
pub mod v1 {
    tonic::include_proto!("weir.v1");
}

/// Policy routes of a data plane at most: each may be compared with every flow that begins.
pub const POLICY_ROUTES_MAX: usize = 64;

/// The encoded `google.protobuf.FileDescriptorSet` of all APIs, for reflection and proto3 JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
