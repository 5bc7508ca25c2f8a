//! Images as messages of the feed.

use jiff::Timestamp;
use prost::Message;
use scoregate_authz::Version;

use crate::proto::scoregate::policy::v1 as wire;
use crate::workspace::image::{Image, ImageEntry};
use wire::workspace_message::Message as Kind;

/// Most of a change; what is larger is sent as a complete snapshot.
const MAX_CHANGE: Limit = Limit { entries: 1000, bytes: 2 << 20 };
/// Most of one part of a snapshot.
const MAX_PART: Limit = Limit { entries: 500, bytes: 1 << 20 };

#[derive(Debug, Clone, Copy)]
struct Limit {
    entries: usize,
    bytes: usize,
}

/// All that was committed after a revision; `None` if it is too much for one message.
pub(super) fn change(
    image: &Image,
    from_revision: u64,
    statement: &wire::Statement,
) -> Option<wire::WorkspaceMessage> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    for entry in image.changed_since(from_revision) {
        let entry = wire_entry(entry);
        bytes += entry.encoded_len();
        entries.push(entry);
        if entries.len() > MAX_CHANGE.entries || bytes > MAX_CHANGE.bytes {
            return None;
        }
    }
    let Version { epoch, revision } = image.version();
    Some(message(Kind::Change(wire::Change {
        epoch,
        from_revision,
        revision,
        entries,
        state_hash: image.state_hash().0.to_vec(),
        committed_at: Some(wire_time(image.committed_at())),
        statement: Some(statement.clone()),
    })))
}

/// A complete snapshot in parts, each made when it is asked for.
pub(super) fn snapshot<'a>(
    workspace: &'a str,
    image: &'a Image,
    statement: wire::Statement,
) -> impl Iterator<Item = wire::WorkspaceMessage> + use<'a> {
    let total = image.count();
    let mut entries = image.live().map(wire_entry).peekable();
    let mut offset = 0;
    let mut statement = Some(statement);
    std::iter::from_fn(move || {
        // A snapshot without entries has one part as well.
        if entries.peek().is_none() && statement.is_none() {
            return None;
        }
        let part = take_part(&mut entries);
        let length = part.len();
        let Version { epoch, revision } = image.version();
        let message = message(Kind::SnapshotPart(wire::SnapshotPart {
            workspace: workspace.to_owned(),
            epoch,
            revision,
            total: total as u64,
            offset: offset as u64,
            entries: part,
            state_hash: image.state_hash().0.to_vec(),
            statement: statement.take(),
        }));
        offset += length;
        Some(message)
    })
}

/// As many as go into one part, and at least one if there is one.
fn take_part(entries: &mut std::iter::Peekable<impl Iterator<Item = wire::Entry>>) -> Vec<wire::Entry> {
    let mut part = Vec::new();
    let mut bytes = 0;
    while part.len() < MAX_PART.entries {
        let fits = |next: &wire::Entry| part.is_empty() || bytes + next.encoded_len() <= MAX_PART.bytes;
        let Some(entry) = entries.next_if(fits) else { break };
        bytes += entry.encoded_len();
        part.push(entry);
    }
    part
}

/// The image is the latest, at this time.
pub(super) fn heartbeat(image: &Image, now: Timestamp, statement: wire::Statement) -> wire::WorkspaceMessage {
    let Version { epoch, revision } = image.version();
    message(Kind::Heartbeat(wire::Heartbeat {
        epoch,
        revision,
        state_hash: image.state_hash().0.to_vec(),
        sent_at: Some(wire_time(now)),
        statement: Some(statement),
    }))
}

fn message(kind: Kind) -> wire::WorkspaceMessage {
    wire::WorkspaceMessage { message: Some(kind) }
}

fn wire_entry(entry: &ImageEntry) -> wire::Entry {
    let row = &entry.row;
    wire::Entry {
        kind: i32::try_from(row.id.kind).unwrap_or_default(),
        id: row.id.id.to_string(),
        name: row.name.clone(),
        content: row.content.clone(),
        deleted: row.deleted,
    }
}

fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::store::EntryRow;
    use scoregate_authz::EntryId;

    fn image(entries: usize, content: usize) -> Image {
        let row = |number: usize| EntryRow {
            id: EntryId { kind: 1, id: format!("{number:06}").into() },
            name: String::new(),
            content: vec![0; content],
            revision: 1,
            deleted: false,
        };
        let version = Version { epoch: 1, revision: 1 };
        Image::new(version, (0..entries).map(row).collect(), Timestamp::UNIX_EPOCH)
    }

    fn parts(image: &Image) -> Vec<wire::SnapshotPart> {
        let part = |message: wire::WorkspaceMessage| match message.message {
            Some(Kind::SnapshotPart(part)) => part,
            other => panic!("{other:?}"),
        };
        snapshot("w", image, wire::Statement::default()).map(part).collect()
    }

    #[test]
    fn snapshot_without_entries_is_one_part() {
        let parts = parts(&image(0, 0));
        assert_eq!(parts.len(), 1);
        assert_eq!((parts[0].total, parts[0].offset, parts[0].entries.len()), (0, 0, 0));
    }

    #[test]
    fn t112_snapshot_parts_say_where_they_belong() {
        let parts = parts(&image(1201, 10));
        let sizes: Vec<_> = parts.iter().map(|part| (part.total, part.offset, part.entries.len())).collect();
        assert_eq!(sizes, [(1201, 0, 500), (1201, 500, 500), (1201, 1000, 201)]);
    }

    #[test]
    fn snapshot_parts_are_limited_in_bytes() {
        let parts = parts(&image(5, 400_000));
        assert_eq!(parts.iter().map(|part| part.entries.len()).collect::<Vec<_>>(), [2, 2, 1]);
        // What is too large for a part by itself is sent nevertheless.
        assert_eq!(self::parts(&image(1, 2_000_000)).len(), 1);
    }

    #[test]
    fn change_that_is_too_large_is_none() {
        let statement = wire::Statement::default();
        assert!(change(&image(1000, 1), 0, &statement).is_some());
        assert!(change(&image(1001, 1), 0, &statement).is_none());
        assert!(change(&image(3, 1_000_000), 0, &statement).is_none());
        assert!(change(&image(1001, 1), 1, &statement).is_some());
    }
}
