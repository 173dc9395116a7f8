//! One connection: bytes out, whole answers in.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::BenchError;

const READ_BYTES: usize = 64 * 1024;

/// One connection to the broker.
pub struct Connection {
    stream: TcpStream,
    /// Read and not yet cut into answers.
    pending: BytesMut,
    /// What the next read goes into.
    read_buffer: Vec<u8>,
}

impl Connection {
    /// Connects, without Nagle's delay.
    pub async fn open(address: SocketAddr) -> Result<Self, BenchError> {
        let wrong = |source| BenchError::io("connect to the broker", source);
        let stream = TcpStream::connect(address).await.map_err(wrong)?;
        stream.set_nodelay(true).map_err(wrong)?;
        Ok(Self { stream, pending: BytesMut::new(), read_buffer: vec![0; READ_BYTES] })
    }

    /// Sends all of `bytes` and gives them back.
    pub async fn send(&self, bytes: Vec<u8>) -> Result<Vec<u8>, BenchError> {
        let (result, bytes) = self.stream.write_all(bytes).await;
        result.map_err(|source| BenchError::io("send to the broker", source))?;
        Ok(bytes)
    }

    /// The next whole answer, without its size.
    pub async fn receive(&mut self) -> Result<Bytes, BenchError> {
        loop {
            if let Some(answer) = self.next_pending() {
                return Ok(answer);
            }
            self.read().await?;
        }
    }

    /// The next whole answer, if it has been read already.
    pub fn next_pending(&mut self) -> Option<Bytes> {
        let size = u32::from_be_bytes(self.pending.get(..4)?.try_into().expect("four bytes")) as usize;
        if self.pending.len() < 4 + size {
            self.pending.reserve(4 + size - self.pending.len());
            return None;
        }
        let mut frame = self.pending.split_to(4 + size);
        Some(frame.split_off(4).freeze())
    }

    async fn read(&mut self) -> Result<(), BenchError> {
        let (result, buffer) = self.stream.read(std::mem::take(&mut self.read_buffer).slice(..)).await;
        self.read_buffer = buffer.into_inner();
        match result.map_err(|source| BenchError::io("read from the broker", source))? {
            0 => Err(BenchError::Broker("the broker closed a connection".to_owned())),
            count => {
                self.pending.extend_from_slice(&self.read_buffer[..count]);
                Ok(())
            }
        }
    }
}
