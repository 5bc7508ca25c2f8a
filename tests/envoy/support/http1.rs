//! HTTP/1.1 over a bare connection: what is sent is what a test wrote, whether HTTP allows it or not.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request};

/// Longer than any timeout of Envoy that a test waits for.
const PATIENCE: Duration = Duration::from_secs(15);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that is kept open.
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    pub(crate) fn open_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Sends a request and reads the answer to it.
    pub(crate) fn send(&mut self, request: &Request) -> io::Result<Answer> {
        self.send_bytes(&request.bytes(), request.method == "HEAD")
    }

    /// The same with bytes that need not be a request.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8], head: bool) -> io::Result<Answer> {
        self.0.get_mut().write_all(bytes)?;
        self.read_answer(head)
    }

    /// What follows an answer that switched protocols.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.get_mut().write_all(bytes)?;
        let mut echoed = vec![0; bytes.len()];
        self.0.read_exact(&mut echoed)?;
        Ok(echoed)
    }

    fn read_answer(&mut self, head: bool) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("`{status_line}` is no status line")))?;
        let mut headers = Vec::new();
        while let line = self.line()?
            && !line.is_empty()
        {
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("no header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !head && !matches!(status, 101 | 204 | 304) {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Ok(length @ 1..) = usize::from_str_radix(&self.line()?, 16) {
                self.take(length, &mut body)?;
                self.line()?;
            }
            self.line()?;
        } else if let Some(length) = answer.header("content-length") {
            self.take(length.parse().map_err(io::Error::other)?, &mut body)?;
        } else {
            self.0.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    fn take(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let start = body.len();
        body.resize(start + length, 0);
        self.0.read_exact(&mut body[start..])
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.0.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }
}

impl Request {
    /// Sends it in HTTP/1.1, on a connection of its own.
    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        self.try_send(to).unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }

    pub(crate) fn try_send(&self, to: SocketAddr) -> io::Result<Answer> {
        Connection::open(to)?.send(self)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if let Some(body) = &self.body {
            bytes.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}
