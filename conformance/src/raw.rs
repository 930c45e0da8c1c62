//! Minimal clients that write and read bytes: for what real clients never send, for faults, and for load that costs the
//! machine little.

pub(crate) mod amqp;
pub(crate) mod kafka;
pub(crate) mod mqtt;

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Connects within a bound, without Nagle's delay.
pub(crate) fn connect(address: &str, read_within: Duration) -> io::Result<TcpStream> {
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no address"))?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(read_within))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}
