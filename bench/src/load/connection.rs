//! One connection: bytes out, whole answers in. Answers are read into one buffer and looked at in place.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use crate::error::BenchError;

/// How long a target has to take a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 64 * 1024;
/// One read copies no more than that: others of the thread have something to do as well.
const READ_BYTES_MAX: usize = 256 * 1024;
/// A longer answer is nonsense.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Connects, without Nagle's delay.
pub fn open(address: SocketAddr) -> Result<TcpStream, BenchError> {
    let wrong = |source| BenchError::network(format!("no connection to {address}"), source);
    let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_PATIENCE).map_err(wrong)?;
    stream.set_nodelay(true).map_err(wrong)?;
    Ok(TcpStream::from_std(stream))
}

/// Sends all of `bytes` and gives them back.
pub async fn send(stream: &TcpStream, bytes: Vec<u8>) -> Result<Vec<u8>, BenchError> {
    let (result, bytes) = stream.write_all(bytes).await;
    result.map_err(|source| BenchError::io("send to the target", source))?;
    Ok(bytes)
}

/// Cuts what a connection brings into answers.
pub struct Answers {
    buffer: Vec<u8>,
    /// What was read and not given out yet. Invariant: `start <= end <= buffer.len()`.
    start: usize,
    end: usize,
}

impl Answers {
    /// Nothing has been read.
    pub fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Where the next whole answer stands, without its size; `None` if it must be read first.
    pub fn take_pending(&mut self) -> Option<Range<usize>> {
        let size = self.pending_size()?;
        let frame = self.start + 4..self.start + 4 + size;
        if frame.end > self.end {
            return None;
        }
        self.start = frame.end;
        Some(frame)
    }

    /// Waits for the next whole answer.
    pub async fn take(&mut self, stream: &TcpStream) -> Result<Range<usize>, BenchError> {
        loop {
            if let Some(frame) = self.take_pending() {
                return Ok(frame);
            }
            self.read(stream).await?;
        }
    }

    /// An answer that was given out. It stays until the next is taken.
    pub fn frame(&self, frame: Range<usize>) -> &[u8] {
        &self.buffer[frame]
    }

    fn pending_size(&self) -> Option<usize> {
        let size = self.buffer[..self.end].get(self.start..self.start + 4)?;
        Some(u32::from_be_bytes(size.try_into().expect("four bytes")) as usize)
    }

    async fn read(&mut self, stream: &TcpStream) -> Result<(), BenchError> {
        let wanted = 4 + self.pending_size().unwrap_or(0);
        if wanted > ANSWER_BYTES_MAX {
            return Err(BenchError::Broker(format!("an answer of {wanted} bytes: not Kafka's protocol")));
        }
        // Room for the whole answer, and never for less than a buffer at the end.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = wanted.max(self.end + BUFFER_BYTES / 4);
        if room > self.buffer.len() {
            self.buffer.resize(room.next_power_of_two(), 0);
        }
        let until = self.buffer.len().min(self.end + READ_BYTES_MAX);
        let rest = std::mem::take(&mut self.buffer).slice(self.end..until);
        let (result, rest) = stream.read(rest).await;
        self.buffer = rest.into_inner();
        match result.map_err(|source| BenchError::io("read from the target", source))? {
            0 => Err(BenchError::Broker("the target closed a connection".to_owned())),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_come_whole_however_they_were_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let sizes = [0, 1, 5, 70_000, 3, 200_000, 65_532];
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody comes");
            let mut bytes = Vec::new();
            for size in sizes {
                bytes.extend((size as u32).to_be_bytes());
                bytes.extend(std::iter::repeat_n(size as u8, size));
            }
            for piece in bytes.chunks(7777) {
                stream.write_all(piece).expect("it is read");
            }
        });
        tokio_uring::start(async {
            let stream = open(address).expect("it listens");
            let mut answers = Answers::new();
            for size in sizes {
                let frame = answers.take(&stream).await.expect("an answer");
                let frame = answers.frame(frame);
                assert_eq!(frame.len(), size);
                assert!(frame.iter().all(|byte| *byte == size as u8));
            }
            let closed = answers.take(&stream).await.expect_err("no more").to_string();
            assert!(closed.contains("closed"), "{closed}");
        });
        server.join().expect("no panic");
    }
}
