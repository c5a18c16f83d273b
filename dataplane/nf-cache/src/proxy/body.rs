//! Bodies on their way: with a limit for each part, and collected where they may be kept.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::Exchange;
use super::collect::Collect;
use crate::clock;
use crate::statistics::Figure;

/// A body whose sender may take so long for each part.
#[derive(Debug)]
pub(crate) struct Timed {
    body: Incoming,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    /// For who waits for something else meanwhile.
    progress: Rc<Progress>,
}

/// How far a body has come.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the last part came.
    pub(crate) last: Cell<Instant>,
    /// It is not what its head or its chunks say: it ends too early, or a size is none.
    pub(crate) is_broken: Cell<bool>,
}

/// The body of a request to an origin.
#[derive(Debug)]
pub(crate) enum Asking {
    /// There is none.
    Empty,
    /// That of the client.
    Client(Timed),
}

/// The body of an answer to a client.
#[derive(Debug)]
pub(crate) struct Answer {
    source: Source,
    collect: Option<Collect>,
    exchange: Option<Exchange>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Whole(Option<Bytes>),
    Origin(Timed),
}

impl Timed {
    pub(crate) fn new(body: Incoming, limit: Duration) -> Self {
        let sleep = Box::pin(tokio::time::sleep(limit));
        let progress = Progress { last: Cell::new(clock::now()), is_broken: Cell::default() };
        Self { body, limit, sleep, progress: Rc::new(progress) }
    }

    /// How far it has come, as it goes on.
    pub(crate) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => {
                    self.progress.last.set(clock::now());
                    self.sleep.as_mut().reset((clock::now() + self.limit).into());
                    self.progress.is_broken.set(frame.as_ref().is_some_and(Result::is_err));
                    match frame.transpose().map_err(io::Error::other)? {
                        None => return Poll::Ready(None),
                        Some(frame) => {
                            // Trailers are for one connection only.
                            if let Ok(data) = frame.into_data() {
                                return Poll::Ready(Some(Ok(data)));
                            }
                        }
                    }
                }
                Poll::Pending => {
                    ready!(self.sleep.as_mut().poll(context));
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
            }
        }
    }
}

impl Asking {
    /// The body of a client, which may take so long for each part.
    pub(crate) fn of(body: Incoming, limit: Duration) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Client(Timed::new(body, limit)) }
    }
}

impl Body for Asking {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(timed) => {
                timed.poll_data(context).map(|data| data.map(|data| data.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(timed) => timed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(timed) => timed.body.size_hint(),
        }
    }
}

impl Answer {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self { source: Source::Empty, collect: None, exchange: None }
    }

    /// A body that is there.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { source: Source::Whole(Some(body)), ..Self::empty() }
    }

    /// The body that an origin gives, collected where it may be kept.
    pub(crate) fn origin(body: Timed, collect: Option<Collect>) -> Self {
        let mut answer = Self { source: Source::Origin(body), collect, exchange: None };
        if answer.is_end_stream() {
            answer.finish();
        }
        answer
    }

    /// The exchange that ends with it.
    pub(crate) fn ends(&mut self, exchange: Exchange) {
        self.exchange = Some(exchange);
    }

    fn pass(&mut self, data: &Bytes) {
        if let Some(exchange) = &self.exchange {
            exchange.count(Figure::OriginBytes, data.len() as u64);
        }
        self.collect = self.collect.take().and_then(|collect| collect.push(data));
    }

    fn finish(&mut self) {
        if let Some(collect) = self.collect.take() {
            collect.finish();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let answer = self.get_mut();
        let data = match &mut answer.source {
            Source::Empty => return Poll::Ready(None),
            Source::Whole(body) => {
                return Poll::Ready(body.take().map(|body| Ok(Frame::data(body))));
            }
            Source::Origin(timed) => ready!(timed.poll_data(context)),
        };
        match &data {
            Some(Ok(data)) => {
                answer.pass(data);
                // Nobody asks again for what is known to be over.
                if answer.is_end_stream() {
                    answer.finish();
                }
            }
            Some(Err(error)) => {
                answer.collect = None;
                answer.exchange.iter().for_each(|exchange| exchange.breaks_off(error));
            }
            None => answer.finish(),
        }
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(body) => body.is_none(),
            Source::Origin(timed) => timed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Source::Origin(timed) => timed.body.size_hint(),
        }
    }
}
