//! A client that says exactly what it is told to, one request at a time, and reads what comes back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("an option can be set");
        Self { stream, correlation_id: 0 }
    }

    /// Asks and waits for the answer.
    pub fn ask<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request);
        self.receive::<Q>(version)
    }

    /// Asks only.
    pub fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("a sound request");
        self.send_body::<Q>(version, &body);
    }

    /// Asks with a body that the codec cannot write.
    pub fn send_body<Q: Request>(&mut self, version: i16, body: &[u8]) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("transcript")));
        let mut request = BytesMut::new();
        let key = ApiKey::try_from(Q::KEY).expect("a known API");
        header.encode(&mut request, key.request_header_version(version)).expect("a sound header");
        request.extend_from_slice(body);
        let mut frame = u32::try_from(request.len()).expect("a small request").to_be_bytes().to_vec();
        frame.extend_from_slice(&request);
        self.stream.write_all(&frame).expect("the broker reads");
    }

    /// Waits for the answer to what was sent.
    pub fn receive<Q: Request>(&mut self, version: i16) -> Q::Response {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).expect("the broker answers");
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame).expect("the broker answers");
        let mut frame = Bytes::from(frame);
        let header =
            ResponseHeader::decode(&mut frame, <Q::Response as HeaderVersion>::header_version(version));
        assert_eq!(header.expect("a sound header").correlation_id, self.correlation_id);
        let response = Q::Response::decode(&mut frame, version).expect("a sound response");
        assert!(!frame.has_remaining(), "nothing behind the response");
        response
    }
}
