//! A body that is kept when all of it has come.

use std::rc::Rc;

use bytes::Bytes;

use crate::cache::Moment;
use crate::connection::Connection;
use crate::store::Head;

/// The response that it is to be, as far as it has come. Without its end nothing is kept.
#[derive(Debug)]
pub(crate) struct Collect {
    connection: Rc<Connection>,
    head: Head,
    /// When its origin was asked.
    asked: Moment,
    bytes: Vec<u8>,
}

impl Collect {
    pub(crate) fn new(connection: &Rc<Connection>, head: Head, asked: Moment) -> Self {
        Self { connection: Rc::clone(connection), head, asked, bytes: Vec::new() }
    }

    /// It with more; none when it is too much.
    pub(crate) fn push(mut self, data: &Bytes) -> Option<Self> {
        let more = data.len();
        let most = self.connection.proxy.settings.limits.object;
        let fits = self.bytes.len() + more <= most;
        if !fits || !self.connection.shared().with(|cache| cache.collect(more)) {
            return None;
        }
        self.bytes.extend_from_slice(data);
        Some(self)
    }

    /// All of it has come.
    pub(crate) fn finish(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let length = bytes.len();
        // What a vector has room for and does not use would not be counted.
        let object = self.head.clone().with_body(bytes.into_boxed_slice().into());
        self.connection.shared().with(|cache| {
            cache.collected(length);
            if let Some(object) = object
                && !self.connection.is_frozen(cache)
            {
                cache.insert(object, self.connection.client(), self.asked);
            }
        });
    }
}

impl Drop for Collect {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.connection.shared().with(|cache| cache.collected(self.bytes.len()));
        }
    }
}
