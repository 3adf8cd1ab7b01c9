//! The control thread: clients on a unix socket. Each is bounded in what it may send, in what waits for it, and in
//! what it may do at once; one that does not read is dropped, and costs the others nothing.

use super::{
    folder::Bound,
    hub::{Hub, Post},
    order::Refusal,
    qmp::{self, Session, Step},
};
use crate::failure::Failure;
use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{UnixListener, UnixStream},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const CLIENTS: usize = 16;
const FIRST_CLIENT: usize = 2;
/// Output that waits for a client, in bytes, above which nothing more is read of it.
const OUTPUT_PAUSE: usize = 64 << 10;
/// And above which it is given up.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How long the last words may take to go out.
const FAREWELL: Duration = Duration::from_secs(1);
/// Messages of one client before it is another's turn.
const TURN: usize = 16;

/// The running thread. Dropping it ends it and takes the socket away.
pub(super) struct Server {
    hub: Arc<Hub>,
    waker: Arc<Waker>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _bound: Bound,
}

impl Server {
    pub(super) fn start(bound: Bound, hub: Arc<Hub>) -> Result<Self, Failure> {
        let internal = |error: io::Error| Failure::io("cannot set up the control thread", &error);
        let listener = bound.listener.try_clone().map_err(internal)?;
        listener.set_nonblocking(true).map_err(internal)?;
        let mut listener = UnixListener::from_std(listener);
        let poll = Poll::new().map_err(internal)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(internal)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(internal)?;
        let closing = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            poll,
            listener,
            hub: Arc::clone(&hub),
            closing: Arc::clone(&closing),
            clients: Vec::new(),
            next_key: 0,
        };
        hub.listen(Some(Arc::clone(&waker)));
        let spawned = thread::Builder::new().name("control".into()).spawn(move || worker.run());
        Ok(Self { hub, waker, closing, thread: Some(spawned.map_err(internal)?), _bound: bound })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Fails only if the thread is gone.
        drop(self.waker.wake());
        if let Some(thread) = self.thread.take() {
            // It panicked: the hook has said so.
            drop(thread.join());
        }
        self.hub.listen(None);
    }
}

struct Client {
    /// Never used again, so that an answer cannot reach another.
    key: u64,
    slot: usize,
    stream: UnixStream,
    session: Session,
    output: VecDeque<u8>,
    /// The id of the command that is being executed: the next one waits for it.
    pending: Option<Option<Value>>,
    /// It sends nothing more.
    finished: bool,
    /// Nothing reaches it any more.
    gone: bool,
}

struct Worker {
    poll: Poll,
    listener: UnixListener,
    hub: Arc<Hub>,
    closing: Arc<AtomicBool>,
    clients: Vec<Client>,
    next_key: u64,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Events::with_capacity(64);
        let mut farewell = None;
        loop {
            self.accept();
            let mut progress = false;
            for client in &mut self.clients {
                progress |= client.turn(&self.hub);
            }
            progress |= self.deliver();
            self.drop_gone();
            if self.closing.load(Ordering::Acquire) && !progress {
                let end = *farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
                if Instant::now() >= end || self.clients.iter().all(|client| client.output.is_empty()) {
                    return;
                }
            }
            let timeout = match (progress, farewell) {
                (true, _) => Some(Duration::ZERO),
                (false, Some(end)) => Some(end.saturating_duration_since(Instant::now())),
                (false, None) => None,
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => (),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self) {
        // Refused for lack of descriptors, say: then it is the next one's turn.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let used = |slot: &usize| self.clients.iter().any(|client| client.slot == *slot);
            let Some(slot) = (0..CLIENTS).find(|slot| !used(slot)) else {
                let refusal = Refusal::new(format!("there are {CLIENTS} clients, and no room for more"));
                drop(stream.write(&line(&qmp::response(Err(refusal), None))));
                continue;
            };
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(FIRST_CLIENT + slot), both).is_err() {
                continue;
            }
            let mut client = Client {
                key: self.next_key,
                slot,
                stream,
                session: Session::default(),
                output: VecDeque::new(),
                pending: None,
                finished: false,
                gone: false,
            };
            self.next_key += 1;
            client.say(&qmp::greeting());
            self.clients.push(client);
        }
    }

    /// Events and answers go out.
    fn deliver(&mut self) -> bool {
        let posts = self.hub.take_posts();
        let any = !posts.is_empty();
        for post in posts {
            match post {
                Post::Event(event) => {
                    let hearing = self.clients.iter_mut().filter(|client| client.session.hears_events());
                    hearing.for_each(|client| client.say(&event));
                }
                Post::Answer(key, answer) => {
                    if let Some(client) = self.clients.iter_mut().find(|client| client.key == key)
                        && let Some(id) = client.pending.take()
                    {
                        client.say(&qmp::response(answer, id));
                    }
                }
            }
        }
        any
    }

    fn drop_gone(&mut self) {
        let registry = self.poll.registry();
        self.clients.retain_mut(|client| {
            let done = client.finished && client.pending.is_none() && client.output.is_empty();
            if client.gone || done {
                // It is closed next, and with that forgotten.
                drop(registry.deregister(&mut client.stream));
                return false;
            }
            true
        });
    }
}

impl Client {
    /// Read, execute, write: as much as can be done now. Returns whether more could follow at once.
    fn turn(&mut self, hub: &Arc<Hub>) -> bool {
        for _ in 0..TURN {
            self.flush();
            if self.gone || self.pending.is_some() || self.output.len() > OUTPUT_PAUSE {
                return false;
            }
            match self.session.step() {
                Some(Step::Say(value)) => self.say(&value),
                Some(Step::Execute(execution, id)) => {
                    self.pending = Some(id);
                    let (key, answers) = (self.key, Arc::clone(hub));
                    let reply = Box::new(move |answer| answers.post(Post::Answer(key, answer)));
                    qmp::execute(hub, execution, reply);
                }
                None if self.read() => (),
                None => {
                    self.flush();
                    return false;
                }
            }
        }
        true
    }

    /// Returns whether something came.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.finished = true,
            Ok(len) => {
                self.session.input.feed(&bytes[..len]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            Err(_) => self.gone = true,
        }
        false
    }

    fn say(&mut self, value: &Value) {
        self.output.extend(line(value));
        self.gone |= self.output.len() > OUTPUT_LIMIT;
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(0) => return self.gone = true,
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.gone = true,
            }
        }
    }
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\r\n").into_bytes()
}
