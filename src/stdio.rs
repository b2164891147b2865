//! Complete writes to standard output and standard error.
//!
//! The streams of the standard library lose buffered data when a descriptor does not block, and keep a lock while they
//! block. These functions write to the descriptor directly.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A standard output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StandardStream {
    /// Writes all of `bytes`. Waits for a slow reader without a time limit.
    ///
    /// # Errors
    /// When the stream fails, for example because its reader closed it.
    pub fn write_all(self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        self.write_rest(bytes, &mut written)
    }

    /// As [`write_all`](Self::write_all), starting at `written`, which is advanced even if this fails.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    pub fn write_rest(self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        match self {
            Self::Stdout => write_rest(io::stdout().as_fd(), bytes, written),
            Self::Stderr => write_rest(io::stderr().as_fd(), bytes, written),
        }
    }

    /// Whether its reader closed it, as far as this can be known without a write.
    #[must_use]
    pub fn is_closed(self) -> bool {
        match self {
            Self::Stdout => is_closed(io::stdout().as_fd()),
            Self::Stderr => is_closed(io::stderr().as_fd()),
        }
    }
}

fn is_closed(descriptor: BorrowedFd<'_>) -> bool {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::empty())];
    let at_once = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let polled = poll(&mut descriptors, Some(&at_once));
    polled.is_ok() && descriptors[0].revents().contains(PollFlags::ERR)
}

fn write_rest(descriptor: BorrowedFd<'_>, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(descriptor, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_until_writable(descriptor)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a descriptor in non-blocking mode accepts bytes again.
fn wait_until_writable(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    match poll(&mut descriptors, None) {
        // After an error of the descriptor, the next write reports it.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_that_does_not_block_receives_every_byte() {
        let (writer, mut reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
        let reading = std::thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            received
        });
        let mut written = 0;
        write_rest(writer.as_fd(), &sent, &mut written).unwrap();
        drop(writer);
        assert_eq!(written, sent.len());
        assert!(reading.join().unwrap() == sent);
    }

    #[test]
    fn what_was_written_before_an_error_is_counted() {
        let (writer, reader) = UnixStream::pair().unwrap();
        let mut written = 0;
        write_rest(writer.as_fd(), b"one", &mut written).unwrap();
        drop(reader);
        let error = write_rest(writer.as_fd(), b"onetwo", &mut written).unwrap_err();
        assert_eq!((error.kind(), written), (io::ErrorKind::BrokenPipe, 3));
    }

    #[test]
    fn a_pipe_without_a_reader_is_closed() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!is_closed(writer.as_fd()));
        drop(reader);
        assert!(is_closed(writer.as_fd()));
    }
}
