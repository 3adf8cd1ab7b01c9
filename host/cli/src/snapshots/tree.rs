//! A snapshot as objects: pages under page tables, blocks under tables of blocks, and contents in pieces.

use super::{
    frame::MAX_GROUP_BYTES,
    objects::Reading,
    pack::Source,
    root::{DiskRoot, MAX_BYTES, Pieces, Root},
    trouble::Trouble,
};
use crate::{disk::loaded_block, recording::Hash};
use reprise_machine::{
    BlockContent, DISK_BLOCK_BYTES, DiskChanges, FirstReads, PAGE_BYTES, Page, PageTable, RamImage, Snapshot,
    TABLE_PAGES,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

const BLOCK_BYTES: usize = DISK_BLOCK_BYTES as usize;
/// Blocks in a table of blocks: 4 MiB of the disk.
const NODE_BLOCKS: u64 = 256;
/// Numbers in a row of the lists of a disk.
const PAIR_BYTES: usize = 16;

/// Takes objects.
pub(super) trait Put {
    /// Keep this content, if it is not there already, and name it.
    fn put(&mut self, object: &[u8]) -> Result<Hash, Trouble>;
    /// The host could not read what should be kept.
    fn failed(&self, what: String) -> Trouble;
}

/// A snapshot that was saved, with the hashes of its parts: what is the same memory in the next one needs none.
/// The memory is held, so that nothing else can take its address.
pub(super) struct Remembered {
    ram: RamImage,
    tables: Vec<Option<Named>>,
    disks: BTreeMap<String, RememberedDisk>,
}

/// A table and what is in it, by index.
#[derive(Clone)]
struct Named {
    hash: Hash,
    children: Vec<(u16, Hash)>,
}

#[derive(Default)]
struct RememberedDisk {
    changes: DiskChanges,
    nodes: BTreeMap<u64, Named>,
    root: DiskRoot,
}

/// Put everything that `last` did not have.
pub(super) fn save(
    snapshot: &Snapshot,
    last: Option<Remembered>,
    put: &mut impl Put,
) -> Result<(Root, Remembered), Trouble> {
    let mut last = last.filter(|last| last.ram.pages() == snapshot.ram.pages());
    let mut root = Root { pages: snapshot.ram.pages() as u64, ..Root::default() };
    let mut total = 0;
    for (name, record) in &snapshot.sections {
        total += record.len() as u64;
        if total > MAX_BYTES {
            return Err(put.failed(format!("its sections are longer than {MAX_BYTES} bytes")));
        }
        root.sections.push((name.clone(), put_pieces(record, put)?));
    }
    let mut tables = Vec::with_capacity(snapshot.ram.tables().len());
    for (index, table) in snapshot.ram.tables().iter().enumerate() {
        let known = last
            .as_mut()
            .and_then(|last| Some((last.ram.tables()[index].clone()?, last.tables[index].take()?)));
        let pages = (snapshot.ram.pages() - index * TABLE_PAGES).min(TABLE_PAGES);
        tables.push(match table {
            Some(table) => save_table(table, pages, known, put)?,
            None => None,
        });
    }
    root.tables = tables.iter().map(|table| Some(table.as_ref()?.hash)).collect();
    let mut disks = BTreeMap::new();
    for (port, changes) in &snapshot.disks {
        let known = last.as_mut().and_then(|last| last.disks.remove(port));
        let disk = save_disk(changes, known.unwrap_or_default(), put)?;
        root.disks.push((port.clone(), disk.root.clone()));
        disks.insert(port.clone(), disk);
    }
    Ok((root, Remembered { ram: snapshot.ram.clone(), tables, disks }))
}

fn put_pieces(content: &[u8], put: &mut impl Put) -> Result<Pieces, Trouble> {
    let hashes = content.chunks(MAX_GROUP_BYTES).map(|piece| put.put(piece)).collect::<Result<_, _>>()?;
    Ok(Pieces { length: content.len() as u64, hashes })
}

fn save_table(
    table: &Arc<PageTable>,
    pages: usize,
    known: Option<(Arc<PageTable>, Named)>,
    put: &mut impl Put,
) -> Result<Option<Named>, Trouble> {
    let (before, named) = match known {
        Some((before, named)) if Arc::ptr_eq(&before, table) => return Ok(Some(named)),
        Some((before, named)) => (Some(before), named.children),
        None => (None, Vec::new()),
    };
    let mut named = named.into_iter().peekable();
    let mut children = Vec::new();
    for (at, page) in (0_u16..).zip(&table[..pages]) {
        // The hash of this page in the table before, if it had one.
        let hash = named.next_if(|(index, _)| *index == at).map(|(_, hash)| hash);
        let Some(page) = page else { continue };
        let before = before.as_ref().and_then(|table| table[usize::from(at)].as_ref());
        let same = hash.filter(|_| before.is_some_and(|before| Arc::ptr_eq(before, page)));
        children.push((
            at,
            match same {
                Some(hash) => hash,
                None => put.put(&page[..])?,
            },
        ));
    }
    if children.is_empty() {
        return Ok(None);
    }
    let hash = put.put(&encode_table(&children, TABLE_PAGES))?;
    Ok(Some(Named { hash, children }))
}

/// A bitmap of what is there, and the hashes of that.
fn encode_table(children: &[(u16, Hash)], width: usize) -> Vec<u8> {
    let mut out = vec![0; width / 8];
    for (at, hash) in children {
        out[usize::from(at / 8)] |= 1 << (at % 8);
        out.extend_from_slice(&hash.0);
    }
    out
}

fn decode_table(object: &[u8], width: usize) -> Option<Vec<(u16, Hash)>> {
    let (bits, hashes) = object.split_at_checked(width / 8)?;
    let count: usize = bits.iter().map(|byte| byte.count_ones() as usize).sum();
    if count == 0 || hashes.len() != count * 32 {
        return None;
    }
    let is_there = |at: &u16| bits[usize::from(at / 8)] & 1 << (at % 8) != 0;
    let indices = (0..=u16::MAX).take(width).filter(is_there);
    let hashes = hashes.chunks_exact(32).map(|bytes| {
        let mut hash = [0; 32];
        hash.copy_from_slice(bytes);
        Hash(hash)
    });
    Some(indices.zip(hashes).collect())
}

fn save_disk(
    changes: &DiskChanges,
    mut known: RememberedDisk,
    put: &mut impl Put,
) -> Result<RememberedDisk, Trouble> {
    let before = known.changes;
    let mut root = known.root;
    let mut nodes = std::mem::take(&mut known.nodes);
    if !Arc::ptr_eq(&before.blocks, &changes.blocks) {
        let mut now = BTreeMap::new();
        let mut blocks = changes.blocks.iter().peekable();
        while let Some(&(&first, _)) = blocks.peek() {
            let number = first / NODE_BLOCKS;
            let of_node = std::iter::from_fn(|| blocks.next_if(|(block, _)| **block / NODE_BLOCKS == number));
            now.insert(number, save_node(of_node, nodes.remove(&number), &before.blocks, put)?);
        }
        nodes = now;
        root.nodes = nodes.iter().map(|(&number, node)| (number, node.hash)).collect();
    }
    if !Arc::ptr_eq(&before.zeroes, &changes.zeroes) {
        root.zeroes = put_pairs(&changes.zeroes, put)?;
    }
    if !Arc::ptr_eq(&before.first_reads, &changes.first_reads) {
        root.first_reads = put_pairs(&changes.first_reads, put)?;
    }
    Ok(RememberedDisk { changes: changes.clone(), nodes, root })
}

fn save_node<'a>(
    blocks: impl Iterator<Item = (&'a u64, &'a Arc<dyn BlockContent>)>,
    known: Option<Named>,
    before: &BTreeMap<u64, Arc<dyn BlockContent>>,
    put: &mut impl Put,
) -> Result<Named, Trouble> {
    let known_children: BTreeMap<u16, Hash> =
        known.iter().flat_map(|node| node.children.iter().copied()).collect();
    let mut content = vec![0; BLOCK_BYTES];
    let mut children = Vec::new();
    for (number, block) in blocks {
        let at = u16::try_from(number % NODE_BLOCKS).expect("a table of blocks is small");
        // What a snapshot shares is never written again: the same memory is the same content.
        let is_same = || before.get(number).is_some_and(|before| Arc::ptr_eq(before, block));
        let same = known_children.get(&at).copied().filter(|_| is_same());
        children.push((
            at,
            match same {
                Some(hash) => hash,
                None => {
                    let read = block.read(0, &mut content);
                    read.map_err(|error| {
                        put.failed(format!("block {number} of a disk cannot be read: {error}"))
                    })?;
                    put.put(&content)?
                }
            },
        ));
    }
    match known {
        Some(known) if known.children == children => Ok(known),
        _ => Ok(Named { hash: put.put(&encode_table(&children, NODE_BLOCKS as usize))?, children }),
    }
}

fn put_pairs(pairs: &BTreeMap<u64, u64>, put: &mut impl Put) -> Result<Pieces, Trouble> {
    let mut content = Vec::with_capacity(pairs.len() * PAIR_BYTES);
    for (key, value) in pairs {
        content.extend_from_slice(&key.to_le_bytes());
        content.extend_from_slice(&value.to_le_bytes());
    }
    if content.len() as u64 > MAX_BYTES {
        return Err(put.failed(format!("a list of a disk is longer than {MAX_BYTES} bytes")));
    }
    put_pieces(&content, put)
}

/// All objects that a snapshot is made of. They are where the index says, and as long as they have to be.
pub(super) fn reachable<S: Source>(
    objects: &mut Reading<'_, S>,
    root: &Root,
) -> Result<HashSet<Hash>, Trouble> {
    let mut found = HashSet::new();
    for pieces in all_pieces(root) {
        for (number, hash) in (0_u64..).zip(&pieces.hashes) {
            let left = pieces.length - number * MAX_GROUP_BYTES as u64;
            objects.expect(hash, left.min(MAX_GROUP_BYTES as u64))?;
            found.insert(*hash);
        }
    }
    let kinds = [
        (page_tables(root), TABLE_PAGES, PAGE_BYTES),
        (block_tables(root), NODE_BLOCKS as usize, BLOCK_BYTES),
    ];
    for (tables, width, bytes) in kinds {
        for (table, children) in read_tables(objects, tables, width)? {
            found.insert(table);
            for (_, hash) in children {
                objects.expect(&hash, bytes as u64)?;
                found.insert(hash);
            }
        }
    }
    Ok(found)
}

fn all_pieces(root: &Root) -> impl Iterator<Item = &Pieces> {
    let sections = root.sections.iter().map(|(_, pieces)| pieces);
    sections.chain(root.disks.iter().flat_map(|(_, disk)| [&disk.zeroes, &disk.first_reads]))
}

fn page_tables(root: &Root) -> BTreeSet<Hash> {
    root.tables.iter().flatten().copied().collect()
}

fn block_tables(root: &Root) -> BTreeSet<Hash> {
    root.disks.iter().flat_map(|(_, disk)| disk.nodes.iter().map(|(_, hash)| *hash)).collect()
}

type Tables = HashMap<Hash, Vec<(u16, Hash)>>;

fn read_tables<S: Source>(
    objects: &mut Reading<'_, S>,
    tables: BTreeSet<Hash>,
    width: usize,
) -> Result<Tables, Trouble> {
    let file = objects.user();
    let mut found = Tables::new();
    objects.read(tables, |hash, object| {
        let table = decode_table(object, width);
        let table = table.ok_or_else(|| no_such(file, &hash, "a table"))?;
        found.insert(hash, table);
        Ok(())
    })?;
    Ok(found)
}

/// An object is not what the file takes it for.
fn no_such(file: &Path, hash: &Hash, what: &str) -> Trouble {
    Trouble::damage(file, None, format!("object {hash} is to be {what} and cannot be"))
}

/// The snapshot with this root. Equal pages are one memory.
pub(super) fn load<S: Source>(objects: &mut Reading<'_, S>, root: &Root) -> Result<Snapshot, Trouble> {
    let pieces = all_pieces(root).flat_map(|pieces| pieces.hashes.iter().copied()).collect::<BTreeSet<_>>();
    let mut contents = HashMap::new();
    objects.read(pieces, |hash, object| {
        contents.insert(hash, object.to_vec());
        Ok(())
    })?;
    let file = objects.user();
    let content = |pieces: &Pieces| joined(pieces, &contents, file);
    let sections = root.sections.iter().map(|(name, pieces)| Ok((name.clone(), content(pieces)?)));
    let sections = sections.collect::<Result<_, Trouble>>()?;
    let ram = load_ram(objects, root)?;
    let blocks = load_blocks(objects, root)?;
    let mut disks = Vec::with_capacity(root.disks.len());
    for ((port, disk), blocks) in root.disks.iter().zip(blocks) {
        let bad = |what: &str| Trouble::damage(file, None, format!("{what} of disk {port:?} are no list"));
        let zeroes = pairs(&content(&disk.zeroes)?).filter(are_ranges).ok_or_else(|| bad("the zeroes"))?;
        let words = |reads: &FirstReads| reads.values().all(|&word| word != 0);
        let first_reads = pairs(&content(&disk.first_reads)?).filter(words);
        let first_reads = Arc::new(first_reads.ok_or_else(|| bad("the first reads"))?);
        let changes = DiskChanges { blocks: Arc::new(blocks), zeroes: Arc::new(zeroes), first_reads };
        disks.push((port.clone(), changes));
    }
    Ok(Snapshot { sections, ram, disks })
}

fn joined(pieces: &Pieces, contents: &HashMap<Hash, Vec<u8>>, file: &Path) -> Result<Vec<u8>, Trouble> {
    let mut left = usize::try_from(pieces.length).expect("the length was checked");
    let mut out = Vec::with_capacity(left);
    for hash in &pieces.hashes {
        let piece = &contents[hash];
        if piece.len() != left.min(MAX_GROUP_BYTES) {
            return Err(no_such(file, hash, "a piece of this content"));
        }
        left -= piece.len();
        out.extend_from_slice(piece);
    }
    Ok(out)
}

/// Rows in ascending order, each once.
fn pairs(content: &[u8]) -> Option<BTreeMap<u64, u64>> {
    if !content.len().is_multiple_of(PAIR_BYTES) {
        return None;
    }
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let rows: Vec<(u64, u64)> =
        content.chunks_exact(PAIR_BYTES).map(|row| (word(&row[..8]), word(&row[8..]))).collect();
    rows.is_sorted_by(|(a, _), (b, _)| a < b).then(|| rows.into_iter().collect())
}

fn are_ranges(zeroes: &BTreeMap<u64, u64>) -> bool {
    let mut before = 0;
    zeroes.iter().all(|(&start, &end)| {
        let fits = before <= start && start < end;
        before = end;
        fits
    })
}

fn load_ram<S: Source>(objects: &mut Reading<'_, S>, root: &Root) -> Result<RamImage, Trouble> {
    let file = objects.user();
    let tables = read_tables(objects, page_tables(root), TABLE_PAGES)?;
    let mut pages: HashMap<Hash, Page> = HashMap::new();
    let wanted: BTreeSet<Hash> = tables.values().flatten().map(|(_, hash)| *hash).collect();
    objects.read(wanted, |hash, object| {
        let page: &[u8; PAGE_BYTES] = object.try_into().map_err(|_| no_such(file, &hash, "a page"))?;
        pages.insert(hash, Arc::new(*page));
        Ok(())
    })?;
    let made: HashMap<Hash, Arc<PageTable>> = tables
        .iter()
        .map(|(hash, children)| {
            let mut table = [const { None }; TABLE_PAGES];
            for (at, page) in children {
                table[usize::from(*at)] = Some(Arc::clone(&pages[page]));
            }
            (*hash, Arc::new(table))
        })
        .collect();
    let count = usize::try_from(root.pages).expect("the number of pages was checked");
    let mut ram = RamImage::zeroed(count);
    for (index, hash) in root.tables.iter().enumerate() {
        let Some(hash) = hash else { continue };
        let last = tables[hash].last().map_or(0, |(at, _)| usize::from(*at));
        if index * TABLE_PAGES + last >= count {
            return Err(Trouble::damage(file, None, "it has pages behind the end of RAM"));
        }
        ram.set_table(index, Some(Arc::clone(&made[hash])));
    }
    Ok(ram)
}

type Blocks = BTreeMap<u64, Arc<dyn BlockContent>>;

/// The blocks of each disk.
fn load_blocks<S: Source>(objects: &mut Reading<'_, S>, root: &Root) -> Result<Vec<Blocks>, Trouble> {
    let file = objects.user();
    let tables = read_tables(objects, block_tables(root), NODE_BLOCKS as usize)?;
    let mut contents: HashMap<Hash, Arc<dyn BlockContent>> = HashMap::new();
    let wanted: BTreeSet<Hash> = tables.values().flatten().map(|(_, hash)| *hash).collect();
    objects.read(wanted, |hash, object| {
        if object.len() != BLOCK_BYTES {
            return Err(no_such(file, &hash, "a block of a disk"));
        }
        contents.insert(hash, loaded_block(object.to_vec()));
        Ok(())
    })?;
    let mut disks = Vec::with_capacity(root.disks.len());
    for (port, disk) in &root.disks {
        let mut blocks = Blocks::new();
        for (number, hash) in &disk.nodes {
            let first = number.checked_mul(NODE_BLOCKS);
            let first = first.ok_or_else(|| {
                Trouble::damage(file, None, format!("disk {port:?} has blocks behind every end"))
            })?;
            for (at, hash) in &tables[hash] {
                blocks.insert(first + u64::from(*at), Arc::clone(&contents[hash]));
            }
        }
        disks.push(blocks);
    }
    Ok(disks)
}
