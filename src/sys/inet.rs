//! Sockets below what the safe crates offer: packet sockets, transparent and
//! repaired TCP, splice. All calls are non-blocking unless the fd is not.
//!
//! Invariant: every pointer given to the kernel comes from a slice or a value
//! that lives across the call, with that slice's own length.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

fn check(n: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn check_int(n: libc::c_int) -> io::Result<()> {
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket with CLOEXEC and NONBLOCK set.
pub fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointer; a non-negative result is a new fd that nobody else owns.
    unsafe {
        let fd = libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol);
        check_int(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// AF_INET or AF_INET6, as the address asks.
pub fn domain_of(address: &SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

pub fn set_option(fd: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `value`, which has that many.
    check_int(unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), len) })
}

pub fn set_int(fd: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option(fd, level, name, &value.to_ne_bytes())
}

/// Fills `value` and returns how much of it the kernel wrote.
pub fn get_option(fd: impl AsFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has that many.
    check_int(unsafe { libc::getsockopt(fd.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut len) })?;
    Ok(len as usize)
}

pub fn get_int(fd: impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = [0; 4];
    get_option(fd, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// SO_ERROR, which is cleared by reading it.
pub fn take_error(fd: impl AsFd) -> io::Result<()> {
    match get_int(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        n => Err(io::Error::from_raw_os_error(n)),
    }
}

/// An address in the kernel's layout.
struct Raw {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl Raw {
    fn empty() -> Self {
        // SAFETY: sockaddr_storage is plain old data; all zeroes is AF_UNSPEC.
        let storage = unsafe { mem::zeroed() };
        Self { storage, len: mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    fn set<T>(value: T) -> Self {
        let mut raw = Self::empty();
        raw.len = mem::size_of::<T>() as libc::socklen_t;
        assert!(mem::size_of::<T>() <= mem::size_of::<libc::sockaddr_storage>());
        // SAFETY: `T` is one of the sockaddr_* structs below, which fit into (just
        // asserted) and are aligned like sockaddr_storage by its definition.
        unsafe { (&raw mut raw.storage).cast::<T>().write(value) };
        raw
    }

    fn new(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(a) => Self::set(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: a.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*a.ip()).to_be() },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(a) => Self::set(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: a.port().to_be(),
                sin6_flowinfo: a.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                sin6_scope_id: a.scope_id(),
            }),
        }
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    fn decode(&self) -> io::Result<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that the kernel wrote a sockaddr_in, which fits and is aligned.
                let a = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
                Ok(SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that the kernel wrote a sockaddr_in6, which fits and is aligned.
                let a = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
                Ok(SocketAddrV6::new(ip, u16::from_be(a.sin6_port), a.sin6_flowinfo, a.sin6_scope_id).into())
            }
            _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }
}

pub fn bind(fd: impl AsFd, address: &SocketAddr) -> io::Result<()> {
    let raw = Raw::new(address);
    // SAFETY: `raw` holds an address of `raw.len` bytes.
    check_int(unsafe { libc::bind(fd.as_fd().as_raw_fd(), raw.pointer(), raw.len) })
}

/// EINPROGRESS is an error here like any other.
pub fn connect(fd: impl AsFd, address: &SocketAddr) -> io::Result<()> {
    let raw = Raw::new(address);
    // SAFETY: `raw` holds an address of `raw.len` bytes.
    check_int(unsafe { libc::connect(fd.as_fd().as_raw_fd(), raw.pointer(), raw.len) })
}

pub fn listen(fd: impl AsFd, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::listen(fd.as_fd().as_raw_fd(), backlog) })
}

/// The accepted socket is non-blocking and lives in the listener's network
/// namespace, whichever the caller's is.
pub fn accept(fd: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut raw = Raw::empty();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the kernel writes at most `raw.len` bytes of address into the
    // storage; a non-negative result is a new fd that nobody else owns.
    let new = unsafe {
        let n = libc::accept4(fd.as_fd().as_raw_fd(), (&raw mut raw.storage).cast(), &mut raw.len, flags);
        check_int(n)?;
        OwnedFd::from_raw_fd(n)
    };
    Ok((new, raw.decode()?))
}

pub fn local_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    let mut raw = Raw::empty();
    // SAFETY: the kernel writes at most `raw.len` bytes of address into the storage.
    check_int(unsafe { libc::getsockname(fd.as_fd().as_raw_fd(), (&raw mut raw.storage).cast(), &mut raw.len) })?;
    raw.decode()
}

pub fn shutdown_write(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check_int(unsafe { libc::shutdown(fd.as_fd().as_raw_fd(), libc::SHUT_WR) })
}

pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    check(unsafe { libc::recv(fd.as_fd().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
}

pub fn receive_from(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let mut raw = Raw::empty();
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer` and at most `raw.len` of address.
    let n = check(unsafe {
        libc::recvfrom(
            fd.as_fd().as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut raw.storage).cast(),
            &mut raw.len,
        )
    })?;
    Ok((n, raw.decode()?))
}

pub fn send(fd: impl AsFd, data: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `data.len()` bytes from `data`.
    check(unsafe { libc::send(fd.as_fd().as_raw_fd(), data.as_ptr().cast(), data.len(), flags) })
}

pub fn send_to(fd: impl AsFd, data: &[u8], address: &SocketAddr) -> io::Result<usize> {
    let raw = Raw::new(address);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `data.len()` bytes from `data` and an address of `raw.len` bytes.
    check(unsafe {
        libc::sendto(fd.as_fd().as_raw_fd(), data.as_ptr().cast(), data.len(), flags, raw.pointer(), raw.len)
    })
}

/// The control data that says which of our addresses a datagram came to or is
/// to leave from: IP_PKTINFO or IPV6_PKTINFO, the larger of the two.
#[repr(C, align(8))]
struct Local([u8; 64]);

/// Has the kernel tell, for each datagram, which of our addresses it came to.
pub fn want_local(fd: impl AsFd, v4: bool) -> io::Result<()> {
    match v4 {
        true => set_int(fd, libc::SOL_IP, libc::IP_PKTINFO, 1),
        false => set_int(fd, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// A datagram, who sent it, and which of our addresses it was sent to (after
/// [`want_local`]).
pub fn receive_local(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    let mut raw = Raw::empty();
    let mut control = Local([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero msghdr is valid: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut raw.storage).cast();
    message.msg_namelen = raw.len;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the kernel writes at most the stated lengths into live buffers.
    let n = check(unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })?;
    let mut local = None;
    // SAFETY: the kernel has filled msg_control with well-formed headers; a
    // PKTINFO header carries the struct that its level and type name.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    local = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((n, raw.decode()?, local))
}

/// Sends a datagram from one of our addresses, whichever the socket is bound to.
pub fn send_from(fd: impl AsFd, data: &[u8], to: &SocketAddr, from: IpAddr) -> io::Result<usize> {
    let raw = Raw::new(to);
    let mut control = Local([0; 64]);
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: an all-zero msghdr is valid: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = raw.pointer().cast_mut().cast();
    message.msg_namelen = raw.len;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the control buffer is aligned, zeroed and longer than either
    // CMSG_SPACE; the header is its first, so it is not null and DATA has room.
    unsafe {
        let size = match from {
            IpAddr::V4(_) => mem::size_of::<libc::in_pktinfo>(),
            IpAddr::V6(_) => mem::size_of::<libc::in6_pktinfo>(),
        } as u32;
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        let data = libc::CMSG_DATA(header);
        match from {
            IpAddr::V4(a) => {
                ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_IP, libc::IP_PKTINFO);
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(a).to_be();
                data.cast::<libc::in_pktinfo>().write_unaligned(info);
            }
            IpAddr::V6(a) => {
                ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_IPV6, libc::IPV6_PKTINFO);
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = a.octets();
                data.cast::<libc::in6_pktinfo>().write_unaligned(info);
            }
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `message` points at live buffers for the whole call; sendmsg only reads.
    check(unsafe { libc::sendmsg(fd.as_fd().as_raw_fd(), &raw const message, flags) })
}

/// Binds a packet socket to one interface and protocol (host order).
pub fn bind_packet(fd: impl AsFd, interface: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain old data.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface as i32;
    let raw = Raw::set(address);
    // SAFETY: `raw` holds an address of `raw.len` bytes.
    check_int(unsafe { libc::bind(fd.as_fd().as_raw_fd(), raw.pointer(), raw.len) })
}

/// Binds an AF_NETLINK socket, letting the kernel choose the port.
pub fn bind_netlink(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: sockaddr_nl is plain old data.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    let raw = Raw::set(address);
    // SAFETY: `raw` holds an address of `raw.len` bytes.
    check_int(unsafe { libc::bind(fd.as_fd().as_raw_fd(), raw.pointer(), raw.len) })
}

/// One classic BPF instruction: code, jump if true, jump if false, operand.
pub type Instruction = (u16, u8, u8, u32);

/// SO_ATTACH_FILTER.
pub fn attach_filter(fd: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let size = mem::size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel reads one sock_fprog and, through it, `len` instructions
    // of `code`; both live until the call returns, and it keeps a copy.
    check_int(unsafe {
        let fprog = (&raw const fprog).cast();
        libc::setsockopt(fd.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, fprog, size)
    })
}

/// Moves up to `len` bytes between a pipe and a socket without blocking; 0 is
/// the end of the stream.
pub fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both offset pointers are null, which splice(2) allows for pipes and sockets.
    check(unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, flags) })
}

/// A non-blocking pipe (read end, write end) and its capacity, which is `wanted`
/// or what the user's quota still allows.
pub fn pipe(wanted: usize) -> io::Result<(OwnedFd, OwnedFd, usize)> {
    let mut fds = [-1; 2];
    // SAFETY: pipe2 writes two ints into `fds`; on success they are new fds that nobody else owns.
    let (read, write) = unsafe {
        check_int(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK))?;
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    // SAFETY: no pointers; F_SETPIPE_SZ takes an int and answers the capacity.
    let size = unsafe {
        match libc::fcntl(read.as_raw_fd(), libc::F_SETPIPE_SZ, wanted as libc::c_int) {
            n if n > 0 => n,
            _ => libc::fcntl(read.as_raw_fd(), libc::F_GETPIPE_SZ),
        }
    };
    Ok((read, write, usize::try_from(size).unwrap_or(4096)))
}

/// Raises the soft limit on open files to the hard one and returns it.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit, setrlimit reads one.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
    limit.rlim_cur
}
