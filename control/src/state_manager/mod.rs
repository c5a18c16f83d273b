//! The state manager: what becomes of moves, copies and notifications (OpenNF, section 5).
//!
//! Logic without I/O or clock: time and what the ends answer go in, what is to be done comes out.
//! The tasks around it are in `sidecar/state`.
//!
//! Operations are not journalled apart, but for moves whose packets are held (`lead`). A move between
//! two instances is the data plane's, which goes on without a sidecar. What gets, puts and deletes can
//! be repeated at any point: nothing is deleted before everything has been put, and taking in the same
//! chunk twice is the same as once. So what is kept of a request is enough: the number of its
//! operation, the answer, and whether the operation is to end. When it says that the operation runs,
//! and the sidecar knows of none, the operation is taken up again from its beginning; one that is to
//! end begins nothing more.

pub mod conflict;
pub mod end;
pub mod lead;
pub mod operation;
pub mod policies;
pub mod relay;
pub mod rounds;
pub mod steps;
pub mod table;
pub mod task;
pub mod versions;
