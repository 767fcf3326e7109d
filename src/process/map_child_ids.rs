//! A parent maps the ids of its child: it writes the maps, or has newuidmap(1) write them. And it removes directories,
//! by a child with the same maps where that takes one. What a map says is in [`crate::ids::id_maps`].

use syscalls::Errno;

use crate::cli::Prog;
use crate::ids::id_maps::{IdMaps, Map};
use crate::process::child::{self, Side};
use crate::process::socket_pair::SocketPair;
use crate::root::directories::Place;
use crate::say::error::Error;
use crate::say::show;
use crate::sys::Cx;

/// Map what the child may not map itself, as soon as that is in its cgroups.
pub fn write_for(cx: &Cx, maps: &IdMaps, child: i32) -> Result<(), Error> {
    let child = show::number(child as u64);
    for map in maps.of_parent() {
        if map.is_free(cx)? {
            map.write(cx, &child)?;
        } else {
            have_written(cx, map, &child)?;
        }
    }
    Ok(())
}

/// Have newuidmap(1) or newgidmap(1) write it.
fn have_written(cx: &Cx, map: &Map, process: &str) -> Result<(), Error> {
    let Some(prog) = Prog::new(map.command(process)?.leak()) else { return Ok(()) };
    let part = Box::new(|side| match side {
        Side::Child => prog.find_tool(cx)?.exec(cx).map(drop),
        Side::Parent(..) => Ok(()),
    });
    match child::run_helper(cx, 0, part)? {
        0 => Ok(()),
        status => Err(map.why_not_written(cx, status)),
    }
}

/// Something that removes a directory.
pub type Remove = fn(&Cx, &Place) -> Result<(), Error>;

/// Do `remove` as the caller. If that is refused (another of the mapped ids owns the file, or its mode forbids it), do
/// it in a user namespace with these maps, whose root may remove it.
pub fn remove(cx: &Cx, maps: &IdMaps, place: &Place, remove: Remove) -> Result<(), Error> {
    match remove(cx, place) {
        Err(e) if e.is(Errno::EACCES) || e.is(Errno::EPERM) => {}
        other => return other,
    }
    if cx.dry() {
        return Ok(()); // there it would succeed
    }
    let sockets = SocketPair::new(cx)?;
    let part = Box::new(|side| match side {
        Side::Child => {
            maps.write_own(cx)?;
            sockets.wait_for_parent(cx)?;
            remove(cx, place)
        }
        Side::Parent(child, _) => {
            sockets.wait_for_child(cx, child, || write_for(cx, maps, child)).map(drop)
        }
    });
    match child::run_helper(cx, libc::CLONE_NEWUSER as u64, part)? {
        0 => Ok(()),
        _ => Err(Error::refusal(format_args!("{} is not removed", place.shown()))),
    }
}
