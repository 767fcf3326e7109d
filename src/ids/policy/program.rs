//! A program of classic BPF, as the kernel runs it before each system call: bpf(4) of BSD, seccomp(2).

use crate::ids::policy::calls::Arch;
use crate::say::error::Error;
use crate::sys::structs::BpfInstruction;
use crate::sys::{self, Cx};

/// What a program answers: linux/seccomp.h. The low 16 bits are data, of ERRNO the errno.
pub mod answer {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;

    /// Does the call happen?
    pub fn allows(answer: u32) -> bool {
        matches!(answer & 0xffff_0000, ALLOW | LOG)
    }
}

/// Codes of instructions: linux/bpf_common.h.
pub mod code {
    pub const LD_ABS: u16 = 0x20;
    pub const AND: u16 = 0x54;
    pub const JA: u16 = 0x05;
    pub const JEQ: u16 = 0x15;
    pub const JGT: u16 = 0x25;
    pub const JGE: u16 = 0x35;
    pub const RET: u16 = 0x06;
}

/// The kernel takes no longer program.
pub const LONGEST: usize = 4096;

/// A system call as a program sees it: `struct seccomp_data`.
pub struct Data {
    pub number: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    /// A call of this machine.
    pub fn own(number: u32, args: &[u64]) -> Data {
        let mut all = [0; 6];
        all.iter_mut().zip(args).for_each(|(to, arg)| *to = *arg);
        Data { number, arch: Arch::OWN.audit(), args: all }
    }

    /// The 32 bits at `offset`: number, arch, instruction pointer (taken to be 0), arguments.
    fn word(&self, offset: u32) -> Option<u32> {
        match (offset % 4, offset / 4) {
            (0, 0) => Some(self.number),
            (0, 1) => Some(self.arch),
            (0, 2 | 3) => Some(0),
            (0, word @ 4..16) => {
                let arg = *self.args.get((word - 4) as usize / 2)?;
                Some((arg >> (32 * (word % 2))) as u32)
            }
            _ => None,
        }
    }
}

/// A program.
#[derive(Debug, PartialEq)]
pub struct Program(pub Vec<BpfInstruction>);

impl Program {
    /// One that others have compiled, as `bwrap --seccomp` takes it: `struct sock_filter` after another.
    pub fn from_bytes(bytes: &[u8]) -> Option<Program> {
        let mut program = Vec::new();
        for chunk in bytes.chunks(8) {
            let &[c0, c1, jt, jf, k0, k1, k2, k3] = chunk else { return None };
            let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([k0, k1, k2, k3]));
            program.push(BpfInstruction { code, jt, jf, k });
        }
        Some(Program(program))
    }

    /// The bytes that [`Program::from_bytes`] takes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in &self.0 {
            bytes.extend_from_slice(&i.code.to_ne_bytes());
            bytes.extend_from_slice(&[i.jt, i.jf]);
            bytes.extend_from_slice(&i.k.to_ne_bytes());
        }
        bytes
    }

    /// What it answers to a call. An error is the number of an instruction that seccomp(2) does not take, or that
    /// lies beyond the end.
    pub fn evaluate(&self, data: &Data) -> Result<u32, usize> {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
        let mut next = 0;
        loop {
            let here = next;
            next += 1;
            let &BpfInstruction { code, jt, jf, k } = self.0.get(here).ok_or(here)?;
            let jump = |is: bool| usize::from(if is { jt } else { jf });
            let slot = memory.get_mut(k as usize).ok_or(here);
            // With bit 3 a jump or a calculation takes X for K.
            let operand = if code & 0x08 == 0 { k } else { x };
            match code {
                code::LD_ABS => a = data.word(k).ok_or(here)?,
                0x80 => a = 64, // the length of the data
                0x81 => x = 64,
                0x00 => a = k,
                0x01 => x = k,
                0x60 => a = *slot?,
                0x61 => x = *slot?,
                0x02 => *slot? = a,
                0x03 => *slot? = x,
                0x07 => x = a,
                0x87 => a = x,
                code::RET => return Ok(k),
                0x16 => return Ok(a),
                code::JA => next += k as usize,
                code::JEQ | 0x1d => next += jump(a == operand),
                code::JGT | 0x2d => next += jump(a > operand),
                code::JGE | 0x3d => next += jump(a >= operand),
                0x45 | 0x4d => next += jump(a & operand != 0),
                0x84 => a = a.wrapping_neg(),
                0x3c if x == 0 => return Ok(0), // a division by 0 ends the program so
                _ => a = calculate(code & !0x08, a, operand).ok_or(here)?,
            }
        }
    }

    /// Load it: from now on, and in all that this process executes and all its children, the kernel asks it before
    /// each system call.
    pub fn load(&self, cx: &Cx) -> Result<(), Error> {
        sys::seccomp_set_mode_filter(cx, &self.0)
            .map_err(|e| super::why_not_loaded::why(cx, self.0.len(), e))
    }
}

/// A calculation with A. `None`: seccomp(2) does not take it. Of a shift by X the kernel takes 5 bits.
fn calculate(code: u16, a: u32, operand: u32) -> Option<u32> {
    match code {
        0x04 => Some(a.wrapping_add(operand)),
        0x14 => Some(a.wrapping_sub(operand)),
        0x24 => Some(a.wrapping_mul(operand)),
        0x34 => a.checked_div(operand),
        0x44 => Some(a | operand),
        code::AND => Some(a & operand),
        0x64 => Some(a.wrapping_shl(operand)),
        0x74 => Some(a.wrapping_shr(operand)),
        0xa4 => Some(a ^ operand),
        _ => None,
    }
}
