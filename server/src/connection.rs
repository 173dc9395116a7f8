//! One connection: requests are read, executed one after the other, and answered in order.
//!
//! On the core that the listener handed it to, as one task. Only Produce requests that follow each other
//! overlap: each is placed before the next one is read, and waits for the disk together with the others.
//! Anything else waits until all before it are answered. Bounds: `PIPELINED_MAX` requests under way, the
//! memory of [`crate::memory`] for their bodies. Their answers leave together where they are ready at one time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use flumen_ring::semaphore::Permit;
use flumen_ring::{AlignedBuffer, BufferMut, SendPiece, Socket};
use flumen_wire::frame::{self, SIZE_BYTES};
use futures_util::future::{Either, select};
use kafka_protocol::messages::ApiKey;

use crate::config::ListenerConfig;
use crate::connections::Presence;
use crate::dispatch;
use crate::handlers::{ConnectionFacts, Refusal, RequestContext, fetch, produce};
use crate::memory::{FREE_BYTES, Held};
use crate::shard::Shard;

/// Produce requests of one connection that may wait for the disk at one time.
const PIPELINED_MAX: usize = 64;

/// Room for the answer to one of them, as most are; there is more where it is needed.
const ANSWER_BYTES: usize = 128;

/// Bytes of the buffer that a connection keeps, also while it is idle; what fits is read in one go. It has room for two
/// requests like the last one, and for twice what came the last time, unless that was one of the large ones, whose
/// bodies have memory of their own.
const READ_BYTES_MIN: usize = 1024;
const READ_BYTES_MAX: usize = FREE_BYTES;

/// Bodies up to this size lie in memory that is used again: fresh memory of that size is mapped, cleared and
/// unmapped by the kernel for each request, which costs more than all that is done with the bytes.
const RECYCLED_BYTES_MAX: usize = 1 << 20;

/// How long a body may take to arrive: this, and a second more for each [`BODY_BYTES_PER_SECOND`].
const BODY_TIME: Duration = Duration::from_secs(30);
const BODY_BYTES_PER_SECOND: usize = 64 << 10;

/// Bodies that hold memory are received in steps of this size, and looked at after this time: while others wait for
/// memory, a step has no longer.
const STEP_BYTES: usize = 256 << 10;
const STEP_TIME: Duration = Duration::from_secs(1);

/// A response on its way to the peer.
pub enum Response {
    /// One whole frame.
    Frame(Bytes),
    /// A frame in pieces, the records straight out of the cache.
    Pieces {
        /// In order.
        pieces: Vec<SendPiece>,
        /// What they hold until they have left.
        held: Held,
    },
}

/// Serves a connection until it ends.
pub async fn serve(shard: Rc<Shard>, socket: Socket, peer: SocketAddr, listener: Arc<ListenerConfig>) {
    let Some(presence) = shard.connections().enter(&socket) else { return };
    // Answers are whole frames: waiting for more to send only delays them.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "the connection ended before its first request");
        return;
    }
    let id = (u64::from(shard.core().0) << 48) | presence.id();
    let facts = Rc::new(ConnectionFacts { id, peer, listener });
    let connection = Connection {
        shard,
        socket,
        facts,
        presence,
        proven_bytes: Cell::default(),
        pipeline: RefCell::default(),
        changed: RefCell::default(),
    };
    if let Err(end) = connection.run().await {
        connection.tell(&end);
    }
    connection.socket.close();
}

/// Why a connection ended before the peer closed it.
enum End {
    Io(io::Error),
    Refused(Refusal),
    Slow { bytes: usize },
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

struct Connection {
    shard: Rc<Shard>,
    socket: Socket,
    facts: Rc<ConnectionFacts>,
    presence: Presence,
    /// Twice the last body that held memory and came whole: as much is believed to come at once.
    proven_bytes: Cell<usize>,
    /// Produce requests under way, oldest first.
    pipeline: RefCell<VecDeque<produce::Pending>>,
    /// Reader and writer are one task, so one waker serves both.
    changed: RefCell<Option<Waker>>,
}

/// Requests of a pipeline that are done, and what there is to send for them.
#[derive(Default)]
struct Answered {
    requests: usize,
    frames: BytesMut,
    /// Of the last of them: it ends the connection, once what is before it has left.
    refusal: Option<Refusal>,
}

impl Connection {
    fn tell(&self, end: &End) {
        let (peer, connections) = (self.facts.peer, self.shard.connections());
        match end {
            End::Io(error) => tracing::debug!(%peer, %error, "a connection broke"),
            End::Refused(refusal @ Refusal::Unencodable { .. }) => {
                tracing::error!(%peer, %refusal, "closing the connection")
            }
            End::Refused(refusal) => {
                if let Some(untold) = connections.may_tell() {
                    tracing::info!(%peer, %refusal, untold, "closing the connection");
                }
            }
            End::Slow { bytes } => {
                if let Some(untold) = connections.may_tell() {
                    tracing::info!(%peer, bytes, untold, "closing: the request came too slowly");
                }
            }
        }
    }

    async fn run(&self) -> Result<(), End> {
        let reading = async {
            let ended = self.read_requests().await;
            if let Err(End::Refused(_)) = ended {
                // What came before it is answered, as in Kafka.
                self.pipeline_drained().await;
            }
            ended
        };
        match select(pin!(reading), pin!(self.write_pipeline())).await {
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
        }
    }

    async fn read_requests(&self) -> Result<(), End> {
        let mut buffer = ReadBuffer::default();
        while let Some((body, permit)) = self.next_frame(&mut buffer).await? {
            self.presence.touch();
            let (request, body) = dispatch::parse(body)?;
            let api = request.api;
            let context =
                RequestContext { shard: self.shard.clone(), connection: self.facts.clone(), request };
            if api == ApiKey::Produce {
                self.presence.note_producer();
                let pending = produce::start(context, body).await?;
                self.push(pending, permit).await;
                continue;
            }
            self.pipeline_drained().await;
            // A fetch may wait for as long as it likes, also for nothing.
            let answering = (api != ApiKey::Fetch).then(|| self.presence.answering());
            // On the heap while they run: the task of an idle connection shall not have room for all of them.
            let response = match api {
                ApiKey::Fetch => Box::pin(fetch::handle(&context, body, &self.socket)).await?,
                _ => Response::Frame(Box::pin(dispatch::answer(&context, body)).await?),
            };
            drop(permit);
            self.send(response).await?;
            drop(answering);
        }
        Ok(())
    }

    /// Sends the answers of pipelined requests, in their order; those that are ready at one time leave together. Never
    /// ends by itself.
    async fn write_pipeline(&self) -> Result<(), End> {
        loop {
            let Answered { requests, frames, refusal } = poll_fn(|context| self.poll_answers(context)).await;
            if !frames.is_empty() {
                self.socket.send(vec![SendPiece::Bytes(frames.freeze())]).await?;
                self.presence.touch();
            }
            if let Some(refusal) = refusal {
                return Err(refusal.into());
            }
            // Taken out only now: who waits for an empty pipeline waits for the answers to be sent.
            self.pipeline.borrow_mut().drain(..requests);
            self.wake();
        }
    }

    /// The requests at the front of the pipeline that are answered, at least one.
    fn poll_answers(&self, context: &mut Context) -> Poll<Answered> {
        let mut pipeline = self.pipeline.borrow_mut();
        if pipeline.is_empty() {
            self.changed.replace(Some(context.waker().clone()));
        }
        let requests_max = pipeline.len();
        let mut answered = Answered::default();
        for pending in pipeline.iter_mut() {
            let Poll::Ready(answer) = pending.as_mut().poll(context) else { break };
            if answered.requests == 0 {
                answered.frames.reserve(requests_max * ANSWER_BYTES);
            }
            answered.requests += 1;
            match answer {
                Ok(answer) => answer.iter().for_each(|answer| answer.put(&mut answered.frames)),
                Err(refusal) => {
                    answered.refusal = Some(refusal);
                    break;
                }
            }
        }
        if answered.requests == 0 { Poll::Pending } else { Poll::Ready(answered) }
    }

    async fn push(&self, pending: produce::Pending, permit: Option<Permit>) {
        self.pipeline_below(PIPELINED_MAX).await;
        let held: produce::Pending = match permit {
            None => pending,
            Some(permit) => Box::pin(async move {
                let response = pending.await;
                drop(permit);
                response
            }),
        };
        self.pipeline.borrow_mut().push_back(held);
        self.wake();
    }

    async fn pipeline_drained(&self) {
        self.pipeline_below(1).await;
    }

    async fn pipeline_below(&self, length: usize) {
        poll_fn(|context| {
            if self.pipeline.borrow().len() < length {
                return Poll::Ready(());
            }
            self.changed.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn wake(&self) {
        if let Some(waker) = self.changed.take() {
            waker.wake();
        }
    }

    async fn send(&self, response: Response) -> io::Result<()> {
        match response {
            Response::Frame(frame) => self.socket.send(vec![SendPiece::Bytes(frame)]).await?,
            Response::Pieces { pieces, held } => {
                let sendfile_bytes_min = self.shard.config().fetch.sendfile_bytes_min;
                self.socket.transmit(pieces, sendfile_bytes_min).await?;
                drop(held);
            }
        }
        self.presence.touch();
        Ok(())
    }

    /// The next request, as [`Self::read_frame`]; `None` also when the broker stops.
    async fn next_frame(&self, buffer: &mut ReadBuffer) -> Result<Option<(Bytes, Option<Permit>)>, End> {
        match select(pin!(self.read_frame(buffer)), pin!(self.presence.ceased())).await {
            Either::Left((frame, _)) => frame,
            Either::Right(((), _)) if self.presence.produces() => {
                Box::pin(self.take_leave()).await.map(|()| None)
            }
            Either::Right(((), _)) => Ok(None),
        }
    }

    /// Answers what was placed, and lets the peer read that.
    ///
    /// A producer sends again what was not answered, to the broker that comes; and that one knows only the last batch
    /// of each producer, for no more are in a snapshot: of two batches the first would be out of sequence. So the
    /// connection stays until the peer ends it. Closed at once, with requests in it that nobody reads, it would be
    /// reset, and a peer that fails to send may never look at the answers that it has.
    async fn take_leave(&self) -> Result<(), End> {
        self.pipeline_drained().await;
        self.socket.shutdown_write()?;
        let mut unread = Vec::with_capacity(READ_BYTES_MIN);
        loop {
            let (received, buffer) = self.socket.recv(unread, 0..READ_BYTES_MIN).await;
            unread = buffer;
            if received? == 0 {
                return Ok(());
            }
            unread.clear();
        }
    }

    /// The next request without its size, with the memory it holds; `None` when the peer is done.
    async fn read_frame(&self, buffer: &mut ReadBuffer) -> Result<Option<(Bytes, Option<Permit>)>, End> {
        // The key comes first in a request: it says which share of the memory the body takes.
        while buffer.filled() < SIZE_BYTES + 2 {
            if let Some(size) = buffer.size() {
                // No request is this short, but its size must be judged before more is waited for.
                if frame::request_bytes(size, self.request_bytes_max()).map_err(Refusal::from)? < 2 {
                    break;
                }
            }
            if !buffer.receive(&self.socket).await? {
                return Ok(None);
            }
        }
        let size = buffer.size().expect("at least a size was received");
        let bytes = frame::request_bytes(size, self.request_bytes_max()).map_err(Refusal::from)?;
        buffer.room_bytes = read_bytes_after(SIZE_BYTES + bytes, buffer.came_bytes);
        if let Some(frame) = buffer.take_frame(bytes) {
            return Ok(Some((frame, None)));
        }
        let is_produce = buffer.is_produce();
        let (mut body, mut permit) = (buffer.take_start(bytes), None);
        let limit = BODY_TIME + Duration::from_secs((bytes / BODY_BYTES_PER_SECOND) as u64);
        let (ring, memory) = (self.shard.ring(), self.shard.memory());
        if bytes > FREE_BYTES {
            if body.len() < FREE_BYTES && bytes > self.proven_bytes.get() {
                let start = body.len();
                let receiving = self.socket.recv_exact(body, start..FREE_BYTES);
                let (result, returned) =
                    ring.timeout(BODY_TIME, receiving).await.ok_or(End::Slow { bytes })?;
                result?;
                body = returned;
            }
            permit = Some(memory.reserve(bytes - FREE_BYTES, is_produce).await);
            let body = self.receive_held(body, bytes, limit, is_produce).await?;
            self.proven_bytes.set(2 * bytes);
            return Ok(Some((body, permit)));
        }
        let start = body.len();
        let receiving = self.socket.recv_exact(body, start..bytes);
        let (result, body) = ring.timeout(limit, receiving).await.ok_or(End::Slow { bytes })?;
        result?;
        Ok(Some((Bytes::from(body), permit)))
    }

    /// The whole of a body of `bytes` that begins with `start` and holds request memory. Small ones come in memory
    /// that was used before.
    async fn receive_held(
        &self,
        mut start: Vec<u8>,
        bytes: usize,
        limit: Duration,
        is_produce: bool,
    ) -> Result<Bytes, End> {
        if bytes > RECYCLED_BYTES_MAX {
            start.reserve_exact(bytes - start.len());
            let at = start.len();
            return Ok(Bytes::from(self.receive_steps(start, at..bytes, limit, is_produce).await?));
        }
        let mut buffer = AlignedBuffer::recycled(bytes);
        buffer[..start.len()].copy_from_slice(&start);
        let buffer = self.receive_steps(buffer, start.len()..bytes, limit, is_produce).await?;
        Ok(Bytes::from_owner(RecycledBody { buffer, bytes }))
    }

    /// Receives `range`, the rest of a body, within `limit`; sooner while others wait for the memory that it holds.
    async fn receive_steps<B: BufferMut>(
        &self,
        mut buffer: B,
        range: Range<usize>,
        limit: Duration,
        is_produce: bool,
    ) -> Result<B, End> {
        let (ring, memory, bytes) = (self.shard.ring(), self.shard.memory(), range.end);
        let deadline = Instant::now() + limit;
        let mut at = range.start;
        while at < range.end {
            let to = range.end.min(at + STEP_BYTES);
            let mut receiving = pin!(self.socket.recv_exact(buffer, at..to));
            let (result, returned) = loop {
                match ring.timeout(STEP_TIME, receiving.as_mut()).await {
                    Some(received) => break received,
                    None if Instant::now() < deadline && !memory.is_wanted(is_produce) => {}
                    None => return Err(End::Slow { bytes }),
                }
            };
            result?;
            (buffer, at) = (returned, to);
        }
        Ok(buffer)
    }

    fn request_bytes_max(&self) -> i32 {
        i32::try_from(self.shard.config().network.request_bytes_max).unwrap_or(i32::MAX)
    }
}

/// A request's body; its memory is used again by the thread that drops it.
struct RecycledBody {
    buffer: AlignedBuffer,
    /// Invariant: at most the buffer's length.
    bytes: usize,
}

impl AsRef<[u8]> for RecycledBody {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }
}

/// What was received and not yet taken: the start of a request, or several small ones.
struct ReadBuffer {
    bytes: Bytes,
    /// How many bytes it has room for when it is next received into.
    room_bytes: usize,
    /// How many came the last time.
    came_bytes: usize,
}

/// The room for what follows a request of `bytes`, its size included, the last time that `came` bytes came.
fn read_bytes_after(bytes: usize, came: usize) -> usize {
    if bytes > READ_BYTES_MAX {
        return READ_BYTES_MIN;
    }
    (2 * bytes.max(came)).next_power_of_two().clamp(READ_BYTES_MIN, READ_BYTES_MAX)
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self { bytes: Bytes::new(), room_bytes: READ_BYTES_MIN, came_bytes: 0 }
    }
}

impl ReadBuffer {
    fn filled(&self) -> usize {
        self.bytes.len()
    }

    fn size(&self) -> Option<[u8; SIZE_BYTES]> {
        self.bytes.first_chunk().copied()
    }

    fn is_produce(&self) -> bool {
        let key = self.bytes.get(SIZE_BYTES..).and_then(<[u8]>::first_chunk);
        key.is_some_and(|key| i16::from_be_bytes(*key) == ApiKey::Produce as i16)
    }

    /// Receives what has come; says whether there was anything.
    async fn receive(&mut self, socket: &Socket) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(self.room_bytes);
        // Less than the start of a request is left.
        buffer.extend_from_slice(&std::mem::take(&mut self.bytes));
        let start = buffer.len();
        let (result, buffer) = socket.recv(buffer, start..self.room_bytes).await;
        self.bytes = Bytes::from(buffer);
        let received = result?;
        self.came_bytes = received;
        if received == 0 && self.filled() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(received > 0)
    }

    /// A request of `bytes` if it is here whole. One to Produce shares the memory of all that came with it, until it is
    /// answered; of others something may stay for as long as a group does, so they have memory of their own.
    fn take_frame(&mut self, bytes: usize) -> Option<Bytes> {
        if self.filled() < SIZE_BYTES + bytes {
            return None;
        }
        let is_produce = self.is_produce();
        self.bytes.advance(SIZE_BYTES);
        let frame = self.bytes.split_to(bytes);
        Some(if is_produce { frame } else { Bytes::copy_from_slice(&frame) })
    }

    /// The start of a request of `bytes`, which is not here whole, with room for its free part.
    fn take_start(&mut self, bytes: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(bytes.min(FREE_BYTES));
        body.extend_from_slice(&std::mem::take(&mut self.bytes)[SIZE_BYTES..]);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large what a function of four arguments returns is, without calling it.
    fn bytes_of_returned<A, B, C, D, R>(_: impl Fn(A, B, C, D) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn the_task_of_a_connection_is_small() {
        let bytes = bytes_of_returned(serve);
        assert!(bytes <= 3 << 10, "{bytes} bytes, of 8 KiB that an idle connection may take in all");
    }

    #[test]
    fn small_requests_to_produce_share_what_they_came_in() {
        let frame = |api: ApiKey| [&[0, 0, 0, 4][..], &(api as i16).to_be_bytes(), &[7, 8]].concat();
        let came = [frame(ApiKey::Produce), frame(ApiKey::Metadata), frame(ApiKey::Produce)].concat();
        let mut buffer =
            ReadBuffer { bytes: Bytes::from([&came[..], &[0, 0]].concat()), ..Default::default() };
        let place = buffer.bytes.as_ptr_range();
        let mut take = || {
            let bytes = frame::request_bytes(buffer.size()?, 100).expect("a sound size");
            buffer.take_frame(bytes)
        };
        for (api, shares) in [(ApiKey::Produce, true), (ApiKey::Metadata, false), (ApiKey::Produce, true)] {
            let taken = take().expect("it is here whole");
            assert_eq!(taken, frame(api)[SIZE_BYTES..]);
            assert_eq!(place.contains(&taken.as_ptr()), shares, "{api:?}");
        }
        assert_eq!(take(), None);
        assert_eq!((buffer.filled(), buffer.is_produce()), (2, false));
    }

    #[test]
    fn the_room_for_requests_follows_the_last_one() {
        let rooms = [100, 512, 513, 1_200, 4_300, 16 << 10].map(|bytes| read_bytes_after(bytes, bytes));
        assert_eq!(rooms, [1 << 10, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 16 << 10]);
        let after_several = [1 << 10, 2 << 10, 16 << 10].map(|came| read_bytes_after(100, came));
        assert_eq!(after_several, [2 << 10, 4 << 10, 16 << 10]);
        // Of a large one the start says enough.
        assert_eq!(read_bytes_after((16 << 10) + 1, 1 << 10), READ_BYTES_MIN);
    }
}
