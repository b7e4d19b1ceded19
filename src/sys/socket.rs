//! Unix seqpacket sockets that carry descriptors, by path under a directory fd
//! (socket addresses hold only 107 bytes; run directories may be longer).

use super::{Result, check, fd};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect, getsockopt, listen, socket,
    socketpair, sockopt,
};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The kernel's SCM_MAX_FD.
const MAX_FDS: usize = 253;

/// A connected pair of seqpacket ends, CLOEXEC.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// A connected pair of stream ends, CLOEXEC.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
}

/// Binds and listens on `name` in `dir`, in place of what was there.
pub fn listen_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let _ = nix::unistd::unlinkat(dir, name, nix::unistd::UnlinkatFlags::NoRemoveDir);
    let fd = new_seqpacket()?;
    bind(fd.as_raw_fd(), &address(dir, name)?)?;
    listen(&fd, Backlog::new(16)?)?;
    Ok(fd)
}

/// Connects to the seqpacket listener `name` in `dir`.
pub fn connect_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let fd = new_seqpacket()?;
    connect(fd.as_raw_fd(), &address(dir, name)?)?;
    Ok(fd)
}

pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: a null address asks the kernel not to report one.
    let n = check(unsafe {
        libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(n) })
}

fn new_seqpacket() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

fn address(dir: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    UnixAddr::new(format!("{}/{name}", fd::proc_path(&dir)).as_str())
}

/// Who is at the other end (for a listener's client: who called listen).
pub fn peer(fd: BorrowedFd<'_>) -> Result<UnixCredentials> {
    getsockopt(&fd, sockopt::PeerCredentials)
}

/// Sends one message with descriptors. Whole or not at all.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    send_parts(socket, &[IoSlice::new(data)], fds, 0)
}

/// As [`send`], but answers EAGAIN where it would have to wait.
pub fn try_send(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    send_parts(socket, &[IoSlice::new(data)], fds, libc::MSG_DONTWAIT)
}

const CONTROL_BYTES: usize = 16 + 4 * MAX_FDS + 8;

#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

fn send_parts(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: i32) -> Result<()> {
    if fds.len() > MAX_FDS {
        return Err(Errno::ETOOMANYREFS);
    }
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: an all-zero msghdr is valid: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice is guaranteed to have the layout of iovec; sendmsg only reads it.
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    if !fds.is_empty() {
        let bytes = (fds.len() * 4) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE computes from an integer.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as _;
        // SAFETY: the control buffer is aligned and long enough for MAX_FDS
        // descriptors (checked above), so FIRSTHDR is not null and DATA has room.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            let data = libc::CMSG_DATA(header).cast::<i32>();
            for (i, fd) in fds.iter().enumerate() {
                data.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    super::retry(|| {
        // SAFETY: `message` points at live buffers for the whole call.
        check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags | libc::MSG_NOSIGNAL) })
    })
    .map(drop)
}

/// Receives one message into `buffer`; the length and the descriptors, CLOEXEC.
/// Length 0 with no descriptors is the end. A message that was cut is EMSGSIZE
/// and its descriptors are closed. `wait` false answers EAGAIN at once.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: as in `send_parts`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let n = super::retry(|| {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the kernel writes at most the stated lengths into live buffers.
        check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })
    })?;
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled msg_control with well-formed headers; every
    // SCM_RIGHTS number in it is a fresh descriptor that is ours to own.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<i32>();
                fds.extend((0..bytes / 4).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE);
    }
    Ok((n as usize, fds))
}

/// Stream data without waiting and without changing the socket's flags, which
/// another process may share.
pub fn try_read(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    super::retry(|| {
        // SAFETY: the kernel writes at most `len` bytes into the live buffer.
        check(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
    })
    .map(|n| n as usize)
}

/// See [`try_read`].
pub fn try_write(socket: BorrowedFd<'_>, data: &[u8]) -> Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    super::retry(|| {
        // SAFETY: the kernel reads at most `len` bytes of the live slice.
        check(unsafe { libc::send(socket.as_raw_fd(), data.as_ptr().cast(), data.len(), flags) })
    })
    .map(|n| n as usize)
}

/// Bytes that the other end of a unix stream has not read yet (on TCP: that its
/// kernel has not acknowledged). SIOCOUTQ, unix(7) and tcp(7).
pub fn unread(socket: BorrowedFd<'_>) -> Result<usize> {
    let mut n: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, the same number as SIOCOUTQ, writes one int, which lives here.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut n) })?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// Brings the loopback interface of the current network namespace up.
pub fn loopback_up() -> Result<()> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid value of this plain struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as _;
    request.ifr_name[1] = b'o' as _;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives here.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_unread_counts() {
        let (a, b) = stream_pair().unwrap();
        assert_eq!(unread(a.as_fd()), Ok(0));
        try_write(a.as_fd(), b"head").unwrap();
        assert!(unread(a.as_fd()).unwrap() >= 4);
        try_read(b.as_fd(), &mut [0; 16]).unwrap();
        assert_eq!(unread(a.as_fd()), Ok(0));
    }

    #[test]
    fn descriptors_travel() {
        let (a, b) = pair().unwrap();
        let file = fd::sealed(c"test", b"content").unwrap();
        send(a.as_fd(), b"hello", &[file.as_fd(), file.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (n, mut fds) = receive(b.as_fd(), &mut buffer, true).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"hello"[..], 2));
        assert_eq!(fd::read_all(fds.remove(0), 100).unwrap(), b"content");
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buffer, true).unwrap().0, 0);
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &[1; 64], &[]).unwrap();
        assert_eq!(receive(b.as_fd(), &mut [0; 8], true).unwrap_err(), Errno::EMSGSIZE);
    }
}
