//! From the command line and the board to what the machine needs: ports, disks, boot images, the seed.

use crate::{
    args::RunArgs,
    board,
    disk::{DiskSpec, HostDisk},
    failure::{Failure, reason},
    io::{BackendSpec, FORMS, NET_FORMS, PluginSpec, PortPlan},
    network, options,
    plugins::Plugins,
};
use reprise_machine::{
    BootSource, Seed,
    board::{Board, DeviceSpec},
    boot::{BootError, Image, Images, Placement},
    boot_images,
    desc::PortKind,
    plugin::BackendPlugin,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    rc::Rc,
};

/// The key of a port: device id and port name.
pub(crate) type PortKey = (String, String);

/// Where firmware is looked for when a kernel needs one and none is given; after `REPRISE_FIRMWARE`.
const FIRMWARE_PLACES: [&str; 3] = [
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/opensbi/lp64/generic/firmware/fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
];
/// Size of `--scratch-disk`.
const SCRATCH_BYTES: u64 = 64 << 20;
/// No image is larger than the largest RAM.
const MAX_IMAGE_BYTES: u64 = 1 << 40;

/// What every chr and net port of the board is connected to: as the board says, unless the command line says otherwise.
pub(crate) fn ports(
    board: &Board,
    given: &[String],
    net: &[String],
    catalog: &Plugins,
) -> Result<Vec<PortPlan>, Failure> {
    let mut chosen = BTreeMap::new();
    for argument in given {
        let (key, mut backend) = port_argument(board, argument)?;
        if let BackendSpec::Plugin(spec) = &mut backend {
            let loaded = half(spec, catalog).map_err(|failure| failure.at(format!("--port {argument}")))?;
            spec.loaded = Some(loaded);
        }
        if chosen.insert(key, backend).is_some() {
            return Err(Failure::usage("this port is given twice").at(format!("--port {argument}")));
        }
    }
    let mut plans = Vec::new();
    for device in &board.devices {
        for (index, port) in
            device.desc.ports.iter().enumerate().filter(|(_, port)| port.kind == PortKind::Chr)
        {
            let backend = match chosen.remove(&(device.id.clone(), port.name.clone())) {
                Some(backend) => backend,
                None => board_backend(device, index)?,
            };
            plans.push(PortPlan {
                device: device.id.clone(),
                port: port.name.clone(),
                backend,
                framed: false,
            });
        }
    }
    only_one_terminal(&mut plans, given)?;
    plans.extend(network::plans(board, network::Given { chosen: &chosen, net })?);
    Ok(plans)
}

/// The plugin of a backend, and its options as JSON.
fn half(spec: &PluginSpec, catalog: &Plugins) -> Result<(BackendPlugin, String), Failure> {
    let plugin = catalog.backend(&spec.name).map_err(|error| Failure::usage(error.to_string()))?;
    let given = spec.options.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
    let options = options::by_schema(given, &plugin.schema());
    let options = options.map_err(|why| why.at(format!("plugin:{}", spec.name)))?;
    Ok((plugin, options.to_string()))
}

fn port_argument(board: &Board, argument: &str) -> Result<(PortKey, BackendSpec), Failure> {
    let bad = |why: String| Failure::usage(why).at(format!("--port {argument}"));
    let form = || format!("write --port DEVICE[.PORT]=BACKEND; backends: {FORMS}");
    let (name, backend) = argument.split_once('=').ok_or_else(|| bad("no `=` in it".into()).help(form()))?;
    let (id, port) = name.split_once('.').map_or((name, None), |(id, port)| (id, Some(port)));
    let net =
        |device: &&DeviceSpec| device.id == id && device.desc.ports.iter().any(|p| p.kind == PortKind::Net);
    let kind = if board.devices.iter().any(|device| net(&device)) { PortKind::Net } else { PortKind::Chr };
    let device = find_device(board, id, kind).map_err(|(why, help)| bad(why).help(help))?;
    let mut names = device.desc.ports.iter().filter(|port| port.kind == kind).map(|port| &port.name);
    let found = names.clone().find(|name| port.is_none_or(|port| port == *name));
    let Some(found) = found else {
        let all: Vec<&str> = names.by_ref().map(String::as_str).collect();
        let what = if kind == PortKind::Net { "net" } else { "chr" };
        return Err(bad(format!("device \"{id}\" has no {what} port \"{}\"", port.unwrap_or_default()))
            .help(format!("it has: {}", all.join(", "))));
    };
    let backend = match kind {
        PortKind::Net => BackendSpec::parse_net(backend).map_err(|why| {
            bad(why).help(format!("write --port DEVICE[.PORT]=BACKEND; networks: {NET_FORMS}"))
        }),
        _ => BackendSpec::parse(backend).map_err(|why| bad(why).help(form())),
    };
    Ok(((id.to_owned(), found.clone()), backend?))
}

fn board_backend(device: &DeviceSpec, port: usize) -> Result<BackendSpec, Failure> {
    let Some(text) = device.ports.get(port).and_then(Option::as_deref) else { return Ok(BackendSpec::Null) };
    BackendSpec::parse(text).map_err(|why| {
        let name = &device.desc.ports[port].name;
        Failure::config(format!("device \"{}\", port \"{name}\": {why}", device.id))
            .help(format!("backends: {FORMS}, or console"))
    })
}

/// A terminal shows one port. The command line's choice takes it from the board's.
fn only_one_terminal(plans: &mut [PortPlan], given: &[String]) -> Result<(), Failure> {
    let named = |plan: &PortPlan| {
        let full = format!("{}.{}=", plan.device, plan.port);
        given
            .iter()
            .any(|argument| argument.starts_with(&full) || argument.starts_with(&format!("{}=", plan.device)))
    };
    let wants = |plan: &PortPlan| plan.backend == BackendSpec::Stdio;
    if plans.iter().any(|plan| wants(plan) && named(plan)) {
        plans
            .iter_mut()
            .filter(|plan| wants(plan) && !named(plan))
            .for_each(|plan| plan.backend = BackendSpec::Null);
    }
    let mut users =
        plans.iter().filter(|plan| wants(plan)).map(|plan| format!("{}.{}", plan.device, plan.port));
    match (users.next(), users.next()) {
        (Some(first), Some(second)) => Err(Failure::config("two ports want the terminal")
            .note(format!("{first} and {second}"))
            .help(format!("connect one of them to something else: --port {second}=null"))),
        _ => Ok(()),
    }
}

/// A device with a port of this kind; else what is wrong and what there is.
fn find_device<'b>(board: &'b Board, id: &str, kind: PortKind) -> Result<&'b DeviceSpec, (String, String)> {
    let has = |device: &&DeviceSpec| device.desc.ports.iter().any(|port| port.kind == kind);
    let what = if kind == PortKind::Blk { "disk" } else { "chr port" };
    let all: Vec<&str> = board.devices.iter().filter(has).map(|device| device.id.as_str()).collect();
    let help = match all.is_empty() {
        true => format!("the board has no device with a {what}"),
        false => format!("devices with a {what}: {}", all.join(", ")),
    };
    match board.devices.iter().find(|device| device.id == id) {
        None => Err((format!("the board has no device \"{id}\""), help)),
        Some(device) if has(&device) => Ok(device),
        Some(_) => Err((format!("device \"{id}\" has no {what}"), help)),
    }
}

/// Which disk goes where.
pub(crate) fn disk_specs(board: &Board, args: &RunArgs) -> Result<Vec<(PortKey, DiskSpec)>, Failure> {
    let mut taken: BTreeMap<String, DiskSpec> = BTreeMap::new();
    for argument in &args.disk {
        let spec = DiskSpec::parse_disk(argument)?;
        let at = || format!("--disk {argument}");
        find_device(board, &spec.id, PortKind::Blk)
            .map_err(|(why, help)| Failure::usage(why).at(at()).help(help))?;
        if taken.insert(spec.id.clone(), spec).is_some() {
            return Err(Failure::usage("this device has a disk already").at(at()));
        }
    }
    let drives =
        args.drive.iter().map(|argument| DiskSpec::parse_drive(argument)).collect::<Result<Vec<_>, _>>()?;
    check_devices(&drives, &args.net, &args.device)?;
    for (mut spec, argument) in drives.into_iter().zip(&args.drive) {
        spec.id = device_for_drive(board, &spec.id, &taken).ok_or_else(|| {
            Failure::usage("there is no disk device left for this drive").at(format!("-drive {argument}"))
        })?;
        taken.insert(spec.id.clone(), spec);
    }
    only_one_use(&taken)?;
    let with_port = |(id, spec): (String, DiskSpec)| {
        let device = board.devices.iter().find(|device| device.id == id).expect("found above");
        let port = device.desc.ports.iter().find(|port| port.kind == PortKind::Blk).expect("found above");
        ((id, port.name.clone()), spec)
    };
    Ok(taken.into_iter().map(with_port).collect())
}

/// By id if the board has it, else the first disk device that is free.
fn device_for_drive(board: &Board, id: &str, taken: &BTreeMap<String, DiskSpec>) -> Option<String> {
    let blk = |device: &&DeviceSpec| device.desc.ports.iter().any(|port| port.kind == PortKind::Blk);
    let mut free =
        board.devices.iter().filter(blk).map(|device| &device.id).filter(|id| !taken.contains_key(*id));
    free.clone().find(|free| *free == id).or_else(|| free.next()).cloned()
}

/// `-device virtio-blk-device,drive=ID` says what the board's wiring says already, and so does
/// `-device virtio-net-device,netdev=ID`.
fn check_devices(drives: &[DiskSpec], nets: &[String], devices: &[String]) -> Result<(), Failure> {
    for argument in devices {
        let bad = |why: &str| {
            Failure::usage(why)
                .at(format!("-device {argument}"))
                .note("a board composes the devices; of -device there is virtio-blk-device,drive=ID")
                .note("and virtio-net-device,netdev=ID")
                .help("write a stanza in a board file for other devices")
        };
        let mut parts = argument.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut named = |key: &str| parts.find_map(|part| part.strip_prefix(key)).map(str::to_owned);
        if kind.starts_with("virtio-blk") {
            let drive = named("drive=");
            if !drives.iter().any(|disk| Some(&disk.id) == drive.as_ref()) {
                return Err(bad("no -drive has this id"));
            }
        } else if kind.starts_with("virtio-net") {
            let id = named("netdev=").map(|id| format!("id={id}"));
            if !nets.iter().any(|net| net.split(',').any(|part| Some(part) == id.as_deref())) {
                return Err(bad("no -netdev has this id"));
            }
        } else {
            return Err(bad("this device cannot be added from the command line"));
        }
    }
    Ok(())
}

/// Two disks of one run may share an image only if neither is committed: the lock sees one process.
fn only_one_use(disks: &BTreeMap<String, DiskSpec>) -> Result<(), Failure> {
    let mut seen = BTreeMap::new();
    for spec in disks.values() {
        let file = std::fs::canonicalize(&spec.file).unwrap_or_else(|_| spec.file.clone());
        if let Some(commits) = seen.insert(file, spec.commit)
            && (commits || spec.commit)
        {
            return Err(Failure::usage("two disks use one image, and it is to be committed to")
                .at(spec.file.display())
                .help("copy the image, or leave out `,commit`"));
        }
    }
    Ok(())
}

/// Open all disks. `scratch`: an empty one besides, for the first device that has none.
pub(crate) fn open_disks(
    board: &Board,
    specs: &[(PortKey, DiskSpec)],
    scratch: bool,
    open: fn(&DiskSpec) -> Result<HostDisk, Failure>,
) -> Result<BTreeMap<PortKey, HostDisk>, Failure> {
    let opened = specs.iter().map(|(key, spec)| Ok((key.clone(), open(spec)?)));
    let mut disks: BTreeMap<PortKey, HostDisk> = opened.collect::<Result<_, Failure>>()?;
    let ports = board.devices.iter().flat_map(|device| {
        let blk = device.desc.ports.iter().filter(|port| port.kind == PortKind::Blk);
        blk.map(|port| (device.id.clone(), port.name.clone()))
    });
    if scratch && let Some(key) = ports.into_iter().find(|key| !disks.contains_key(key)) {
        let disk = HostDisk::scratch(&key.0, SCRATCH_BYTES);
        disks.insert(key, disk);
    }
    Ok(disks)
}

/// Files to boot from.
#[derive(Clone, Default)]
pub(crate) struct BootFiles {
    firmware: Option<Source>,
    kernel: Option<Source>,
    initrd: Option<Source>,
}

/// A name for messages, and bytes.
pub(crate) type Content = (String, Vec<u8>);

/// What was read of the files to boot from.
#[derive(Clone, Default)]
pub(crate) struct BootImages {
    pub(crate) firmware: Option<Content>,
    pub(crate) kernel: Option<Content>,
    pub(crate) initrd: Option<Content>,
}

/// Reads one of a recording's.
pub(crate) type Reader = Rc<dyn Fn() -> Result<Content, Failure>>;

/// A file, bytes of our own, or a recording's.
#[derive(Clone)]
enum Source {
    File(PathBuf),
    Embedded(&'static str, &'static [u8]),
    Recorded(Reader),
}

impl BootFiles {
    /// As the command line says; a kernel without firmware gets the system's OpenSBI.
    pub(crate) fn from_args(args: &RunArgs) -> Result<Self, Failure> {
        let file = |path: &Option<PathBuf>| path.clone().map(Source::File);
        let firmware = match args.firmware.as_deref().and_then(Path::to_str) {
            Some("none" | "default") | None => None,
            Some(_) => file(&args.firmware),
        };
        let without = args.firmware.as_deref() == Some(Path::new("none"));
        let mut files = Self { firmware, kernel: file(&args.kernel), initrd: file(&args.initrd) };
        if files.firmware.is_none() && files.kernel.is_some() {
            match without {
                // QEMU's `-bios none -kernel F` starts F in M-mode.
                true => files.firmware = files.kernel.take(),
                false => files.firmware = Some(Source::File(system_firmware()?)),
            }
        }
        Ok(files)
    }

    /// A program of our own, run bare.
    pub(crate) fn embedded(name: &'static str, bytes: &'static [u8]) -> Self {
        Self { firmware: Some(Source::Embedded(name, bytes)), ..Self::default() }
    }

    /// Those of a recording: firmware, kernel, initrd.
    pub(crate) fn recorded([firmware, kernel, initrd]: [Option<Reader>; 3]) -> Self {
        let source = |reader: Option<Reader>| reader.map(Source::Recorded);
        Self { firmware: source(firmware), kernel: source(kernel), initrd: source(initrd) }
    }

    /// Read them.
    pub(crate) fn read(&self) -> Result<BootImages, Failure> {
        let read = |what: &str, source: &Option<Source>| source.as_ref().map(|s| s.read(what)).transpose();
        Ok(BootImages {
            firmware: read("firmware", &self.firmware)?,
            kernel: read("kernel", &self.kernel)?,
            initrd: read("initrd", &self.initrd)?,
        })
    }

    /// For power-on (`first`: what was read) and every reset. The files are read again for a reset, rather than kept
    /// beside the guest's RAM.
    pub(crate) fn source(
        self,
        board: &Board,
        seed: &Seed,
        first: &BootImages,
    ) -> Result<BootSource, Failure> {
        // Not the seed itself: that decides every draw of the run, and the guest sees this.
        let rng_seed = blake3::derive_key("reprise 2026 chosen rng-seed", &seed.0);
        let mut first = Some(first.place(board, &rng_seed)?);
        let board = board.clone();
        Ok(Box::new(move || match first.take() {
            Some(placement) => Ok(placement),
            None => {
                let again = self.read().and_then(|images| images.place(&board, &rng_seed));
                again.map_err(|failure| failure.to_string())
            }
        }))
    }
}

impl BootImages {
    fn place(&self, board: &Board, rng_seed: &[u8]) -> Result<Placement, Failure> {
        fn image(content: &Option<Content>) -> Option<Image<'_>> {
            content.as_ref().map(|(name, bytes)| Image { name, bytes })
        }
        let (firmware, kernel, initrd) = (image(&self.firmware), image(&self.kernel), image(&self.initrd));
        let images = Images { firmware, kernel, initrd };
        boot_images(board, &images, Some(rng_seed)).map_err(|error| not_bootable(&error))
    }
}

fn not_bootable(error: &BootError) -> Failure {
    let failure = match error {
        BootError::Nothing => Failure::usage(error.to_string()),
        _ => Failure::config(error.to_string()),
    };
    match error.advice() {
        Some(advice) => failure.help(advice),
        None => failure,
    }
}

impl Source {
    fn read(&self, what: &str) -> Result<Content, Failure> {
        let path = match self {
            Self::Embedded(name, bytes) => return Ok(((*name).to_owned(), bytes.to_vec())),
            Self::Recorded(read) => return read(),
            Self::File(path) => path,
        };
        let failed =
            |error: &std::io::Error| Failure::io(format!("cannot read the {what}"), error).at(path.display());
        let bad = |why: &str| Failure::config(format!("this is no {what}")).at(path.display()).note(why);
        let meta = std::fs::metadata(path).map_err(|e| failed(&e))?;
        if !meta.is_file() {
            return Err(bad(if meta.is_dir() { "it is a directory" } else { "it is not a regular file" }));
        }
        if meta.len() > MAX_IMAGE_BYTES {
            return Err(bad("it is larger than any guest's RAM"));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_IMAGE_BYTES).read_to_end(&mut bytes))
            .map_err(|e| failed(&e))?;
        Ok((path.display().to_string(), bytes))
    }
}

fn system_firmware() -> Result<PathBuf, Failure> {
    if let Some(chosen) = env::var_os("REPRISE_FIRMWARE") {
        return Ok(chosen.into());
    }
    let places = FIRMWARE_PLACES.iter().map(PathBuf::from);
    places.clone().find(|place| place.is_file()).ok_or_else(|| {
        Failure::usage("the kernel needs firmware, and none was found")
            .note(format!("looked for {}", FIRMWARE_PLACES.join(", ")))
            .help("give OpenSBI's fw_dynamic.bin with --firmware or REPRISE_FIRMWARE; Debian's package: opensbi")
            .help("to start the kernel itself in M-mode: --firmware none")
    })
}

/// What chance may decide: from the command line, else from the board, else nothing: the same every time.
pub(crate) fn seed(board: &Board, given: Option<&str>) -> Result<Seed, Failure> {
    let Some(text) = given else { return Ok(board.machine.seed.map_or(Seed::from_number(0), Seed)) };
    if text == "random" {
        return random_bytes().map(Seed);
    }
    let number =
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
    number.map(Seed::from_number).or_else(|| hex_seed(text)).ok_or_else(|| {
        Failure::usage("this is no seed")
            .at(format!("--seed {text}"))
            .help("write a number, 64 hex digits, or random")
    })
}

/// From the host.
pub(crate) fn random_bytes() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    let file = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    file.map(|()| bytes).map_err(|e| Failure::io("cannot draw a random seed", &e))
}

fn hex_seed(text: &str) -> Option<Seed> {
    let mut seed = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(Seed(seed))
}

/// The names of the plugins that a board uses.
pub(crate) fn plugin_names(board: &Board) -> BTreeSet<&str> {
    board.devices.iter().map(|device| device.plugin.as_str()).collect()
}

/// The board of a run's command line, and what goes with it.
pub(crate) fn board_of(args: &RunArgs, catalog: &Plugins) -> Result<Board, Failure> {
    board::load(&args.machine, catalog)
}

/// `--rtc`: a fixed time in nanoseconds, or `None` for the host's clock.
pub(crate) fn fixed_clock(text: &str) -> Result<Option<u64>, Failure> {
    if text == "host" {
        return Ok(None);
    }
    let ns = text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
    ns.map(Some).ok_or_else(|| {
        Failure::usage("this is no time")
            .at(format!("--rtc {text}"))
            .help("write `host`, or seconds since 1970")
    })
}

/// A file to write to later, opened now so that a mistake does not cost a run.
pub(crate) fn create(path: &Path, what: &str) -> Result<File, Failure> {
    File::create(path).map_err(|error| {
        Failure::new(crate::failure::Exit::Io, format!("cannot write the {what}"))
            .at(path.display())
            .note(reason(&error))
    })
}
