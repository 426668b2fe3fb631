/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/crash.h"
#include "gateway/signals.h"

#include "base/file.h"
#include "base/mem.h"
#include "data/json.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

enum {
    OWNERS = 1024,
    STACK_LOOKED_AT = 32 * 1024,
    CHUNK = 4096,
    OWN_STACK = 64 * 1024,
    REGISTERS = 40,
    HANDLE_WORDS = 16,
    GUARD_PAGES = 64,
    ARGUMENTS = 256,
    ARGUMENT_BYTES = 64 * 1024,
    VARIABLES = 1024,
    FRAMES_MAX = 10000,
    AGAIN_MAX = 5, /* within */
    AGAIN_S = 60
};

static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
static const char again_name[] = "IOTGW_BEGUN_ANEW"; /* "number since": how often the program has begun anew of late */

/* All that the handlers use. */
static _Atomic(const struct crash_owner *) owners[OWNERS];
static int record_fd = -1;
static size_t next_line;
static _Atomic(bool) begins_anew;
static char *arguments[ARGUMENTS + 1], *variables[VARIABLES + 2], again[64];
static unsigned n_again;
static int64_t again_since_s;
static char line[CRASH_LINE];
static size_t line_n;
static uintptr_t words[STACK_LOOKED_AT / sizeof(uintptr_t)];
static _Atomic(bool) is_dying;
static _Atomic(pid_t) taker; /* the thread that takes a signal just now; 0: none */

/* --- in the handler: nothing here allocates, locks or calls what does ------------------------------------------------------- */

static void add_char(char c)
{
    if (line_n < sizeof line - 1)
        line[line_n++] = c;
}

static void add(const char *text)
{
    while (*text)
        add_char(*text++);
}

static void add_number(uint64_t n, unsigned base)
{
    char digits[24];
    size_t i = sizeof digits;

    digits[--i] = 0;
    do {
        digits[--i] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    add(&digits[i]);
}

static int64_t now_s(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

static uintptr_t program_counter(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.pc;
#elif defined(__arm__)
    return (uintptr_t)context->uc_mcontext.arm_pc;
#elif defined(__riscv)
    return (uintptr_t)context->uc_mcontext.__gregs[REG_PC];
#else
    (void)context;
    return 0;
#endif
}

static uintptr_t stack_pointer(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.sp;
#elif defined(__arm__)
    return (uintptr_t)context->uc_mcontext.arm_sp;
#elif defined(__riscv)
    return (uintptr_t)context->uc_mcontext.__gregs[REG_SP];
#else
    (void)context;
    return (uintptr_t)__builtin_frame_address(0);
#endif
}

/* By the kernel, which gives an error where there is nothing. */
static bool copy(void *to, uintptr_t from, size_t n)
{
    struct iovec here = {to, n}, there = {(void *)from, n}; /* NOLINT */

    return syscall(SYS_process_vm_readv, getpid(), &here, 1UL, &there, 1UL, 0UL) == (long)n;
}

static size_t copy_stack(uintptr_t from)
{
    size_t n = 0;

    while (n < sizeof words) {
        size_t part = CHUNK - (from + n) % CHUNK; /* to the page's end */

        part = part < sizeof words - n ? part : sizeof words - n;
        if (!copy((char *)words + n, from + n, part))
            break;
        n += part;
    }
    return n / sizeof *words;
}

static bool is_in(uintptr_t word, uintptr_t begin, uintptr_t end)
{
    return word >= begin && word < end;
}

static const struct crash_owner *owner_of_code(uintptr_t word)
{
    for (size_t i = 0; i < OWNERS; i++) {
        const struct crash_owner *owner = atomic_load_explicit(&owners[i], memory_order_relaxed);

        if (owner && is_in(word, owner->code, owner->code_end))
            return owner;
    }
    return NULL;
}

static const struct crash_owner *owner_of_memory(uintptr_t word, uintptr_t code)
{
    for (size_t i = 0; i < OWNERS; i++) {
        const struct crash_owner *owner = atomic_load_explicit(&owners[i], memory_order_relaxed);

        if (owner && owner->code == code &&
            (is_in(word, (uintptr_t)owner->self, (uintptr_t)owner->self + owner->size) ||
             word == (uintptr_t)owner->ctx || word == (uintptr_t)owner->conf))
            return owner;
    }
    return NULL;
}

static bool is_only_one(const struct crash_owner *one)
{
    for (size_t i = 0; i < OWNERS; i++) {
        const struct crash_owner *owner = atomic_load_explicit(&owners[i], memory_order_relaxed);

        if (owner && owner != one && owner->code == one->code)
            return false;
    }
    return true;
}

/* What is near the top of the stack goes first. */
static const struct crash_owner *find_memory(const uintptr_t *at, size_t n, uintptr_t code)
{
    const struct crash_owner *owner = NULL;

    for (size_t i = 0; i < n && !owner; i++)
        owner = owner_of_memory(at[i], code);
    return owner;
}

/* A handle that the module has made, which points to its instance. */
static const struct crash_owner *find_handle(const uintptr_t *at, size_t n, uintptr_t code)
{
    const struct crash_owner *owner = NULL;
    uintptr_t handle[HANDLE_WORDS];

    for (size_t i = 0; i < n && !owner; i++)
        if (at[i] >= CHUNK && at[i] % sizeof(uintptr_t) == 0 && copy(handle, at[i], sizeof handle) &&
            handle[1] >= CHUNK) /* a handle's loop; a loop has a count there, and handles of all its connectors */
            owner = find_memory(handle, HANDLE_WORDS, code);
    return owner;
}

/* Registers that a call leaves as they are, by DWARF's numbers (the psABI of each processor): what they hold in a frame is of now,
 * while words between the frames may be of another's turn. */
#if defined(__x86_64__)
static const int kept[] = {3, 6, 12, 13, 14, 15};
#elif defined(__aarch64__)
static const int kept[] = {19, 20, 21, 22, 23, 24, 25, 26, 27, 28};
#else
static const int kept[] = {-1}; /* not looked at */
#endif

struct walk {
    const struct crash_owner *of_type, *owner;
    size_t n_frames;
};

static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *frame, void *arg)
{
    struct walk *walk = arg;
    uintptr_t values[COUNT_OF(kept)];

    if (!walk->of_type)
        walk->of_type = owner_of_code((uintptr_t)_Unwind_GetIP(frame));
    if (walk->of_type) {
        for (size_t i = 0; i < COUNT_OF(kept); i++)
            values[i] = (uintptr_t)_Unwind_GetGR(frame, kept[i]);
        walk->owner = find_memory(values, COUNT_OF(kept), walk->of_type->code);
        if (!walk->owner)
            walk->owner = find_handle(values, COUNT_OF(kept), walk->of_type->code);
    }
    return walk->owner || ++walk->n_frames == FRAMES_MAX ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static const struct crash_owner *of_frames(const ucontext_t *context)
{
    struct walk walk = {0};
    uintptr_t code;

    if (kept[0] > 0 &&
        copy(&code, program_counter(context), sizeof code)) /* where no code is, there is no frame to begin with */
        _Unwind_Backtrace(look_at_frame, &walk);
    return walk.owner;
}

static const struct crash_owner *whose_turn(const ucontext_t *context)
{
    const struct crash_owner *of_type = owner_of_code(program_counter(context)), *owner;
    const uintptr_t *registers = (const uintptr_t *)&context->uc_mcontext;
    uintptr_t stack = stack_pointer(context);
    size_t n = copy_stack(stack), n_registers = sizeof context->uc_mcontext / sizeof *registers;

    for (unsigned i = 0; i < GUARD_PAGES && !n; i++) { /* it has run out of its stack */
        stack += CHUNK - stack % CHUNK;
        n = copy_stack(stack);
    }
    for (size_t i = 0; i < n && !of_type; i++)
        of_type = owner_of_code(words[i]);
    if (!of_type || is_only_one(of_type))
        return of_type;
    owner = of_frames(context);
    if (owner)
        return owner;
    n_registers = n_registers < REGISTERS ? n_registers : REGISTERS;
    owner = find_memory(registers, n_registers, of_type->code);
    if (!owner)
        owner = find_memory(words, n, of_type->code);
    if (!owner)
        owner = find_handle(registers, n_registers, of_type->code);
    if (!owner)
        owner = find_handle(words, n, of_type->code);
    while (!owner && n == sizeof words / sizeof *words) { /* a deep recursion: what began it is far up */
        stack += sizeof words;
        n = copy_stack(stack);
        owner = find_memory(words, n, of_type->code);
        if (!owner)
            owner = find_handle(words, n, of_type->code);
    }
    return owner;
}

static void write_record(int number, const struct crash_owner *owner, const ucontext_t *context)
{
    const uintptr_t pc = program_counter(context);
    const struct crash_owner *of_code = owner_of_code(pc);

    line_n = 0;
    add("{\"at\":");
    add_number((uint64_t)now_s(), 10);
    add(",\"signal\":");
    add_number((unsigned)number, 10);
    add(",\"where\":\"");
    add(of_code ? "module+0x" : "0x");
    add_number(of_code ? pc - of_code->code : pc, 16);
    add("\"");
    if (owner)
        add(owner->json);
    add("}");
    while (line_n < sizeof line - 1)
        add_char(' ');
    line[line_n] = '\n';
    if (record_fd >= 0 && pwrite(record_fd, line, sizeof line, (off_t)(next_line * CRASH_LINE)) == sizeof line)
        fsync(record_fd);
}

/* For the next one to know. */
static void count_again(void)
{
    char *at = again + sizeof again_name; /* behind the "=" */
    int64_t now = now_s();

    if (now < again_since_s || now - again_since_s >= AGAIN_S) {
        again_since_s = now;
        n_again = 0;
    }
    line_n = 0;
    add_number(n_again + 1, 10);
    add(" ");
    add_number((uint64_t)again_since_s, 10);
    add_char(0);
    for (size_t i = 0; i < line_n && at < again + sizeof again - 1; i++)
        *at++ = line[i];
}

/* By the kernel when the next program is there: until then the other threads run, and a number that is free could become another's file. */
static void let_close_all(void)
{
#if defined(SYS_close_range) && defined(CLOSE_RANGE_CLOEXEC)
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
#endif
    for (int fd = 3; fd < 65536; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void say(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));

    (void)n;
}

/* For ever: another thread is at it. */
static _Noreturn void wait_for_the_end(void)
{
    for (;;)
        pause();
}

/* The one who takes a signal says first whether it is a stop. */
static void wait_for_taker(void)
{
    const struct timespec moment = {.tv_nsec = 1000 * 1000};
    pid_t self = (pid_t)syscall(SYS_gettid), other;

    while ((other = atomic_load(&taker)) && other != self)
        nanosleep(&moment, NULL);
}

static void begin_anew(void)
{
    sigset_t held;

    say("iotgw: a fault has ended the program; it begins anew\n");
    let_close_all();
    signals_set(&held);
    sigprocmask(SIG_SETMASK, &held, NULL); /* a stop that nobody has taken goes on to the next program */
    execve("/proc/self/exe", arguments, variables);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    sigset_t own;
    bool is_own = info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == getpid());

    if (atomic_exchange(&is_dying, true))
        wait_for_the_end();
    if (is_own)
        write_record(number, whose_turn(context), context);
    count_again();
    wait_for_taker();
    if (is_own && begins_anew && n_again < AGAIN_MAX)
        begin_anew();
    signal(number, SIG_DFL);
    sigemptyset(&own);
    sigaddset(&own, number);
    sigprocmask(SIG_UNBLOCK, &own, NULL);
    raise(number);
    _exit(128 + number);
}

void crash_taking_begins(void)
{
    if (HAS_SANITIZER)
        return;
    atomic_store(&taker, (pid_t)syscall(SYS_gettid));
    if (!atomic_load(&is_dying)) /* both in one order: the other one has seen the taker, or is seen here */
        return;
    atomic_store(&taker, 0);
    wait_for_the_end();
}

void crash_taking_ends(bool is_stop)
{
    if (is_stop)
        crash_stay_down();
    atomic_store(&taker, 0);
}

/* --- before anything has happened -------------------------------------------------------------------------------------------- */

static void read_arguments(void)
{
    autobuf struct buf text = {0};
    size_t n = 0;

    if (file_read(&text, "/proc/self/cmdline", ARGUMENT_BYTES, NULL))
        return;
    buf_add_u8(&text, 0);
    for (size_t at = 0; at + 1 < text.n && n < ARGUMENTS; at += strlen(arguments[n - 1]) + 1)
        arguments[n++] = mem_dup((const char *)text.p + at);
    arguments[n] = NULL;
}

static void read_variables(void)
{
    const char *former = getenv(again_name);
    unsigned long long since = 0;
    size_t n = 0;

    n_again = 0;
    if (former && sscanf(former, "%u %llu", &n_again, &since) != 2)
        n_again = 0;
    again_since_s = (int64_t)since;
    unsetenv(again_name); /* programs that are started by this one have nothing to do with it */
    for (char **at = environ; *at && n < VARIABLES; at++)
        variables[n++] = mem_dup(*at);
    snprintf(again, sizeof again, "%s=", again_name);
    variables[n++] = again;
    variables[n] = NULL;
}

static void free_texts(char **texts)
{
    for (; *texts; *texts++ = NULL)
        if (*texts != again)
            mem_free(*texts);
}

static NODISCARD enum err open_records(const char *path, int64_t now, struct crash_book *book, struct why *why)
{
    autobuf struct buf text = {0}, whole = {0};
    enum err err = file_read(&text, path, 1024 * 1024, NULL);

    crash_book_read(book, err ? STR_NONE : buf_str(&text), now);
    next_line = book->n; /* each start has room for one */
    crash_book_print(&whole, book);
    err = file_put(path, buf_str(&whole), FILE_REPLACE, NULL, why);
    if (err)
        return err;
    record_fd = open(path, O_WRONLY | O_CLOEXEC);
    return record_fd >= 0 ? ERR_OK : why_set(why, err_from_errno(errno), "%s: cannot be opened", path);
}

enum err crash_begin(const char *path, int64_t now, struct crash_book *book, struct why *why)
{
    const char *wish = getenv("IOTGW_ON_CRASH");
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    enum err err = open_records(path, now, book, why);

    if (HAS_SANITIZER)
        return err;
    read_arguments();
    read_variables();
    begins_anew = arguments[0] && !(wish && strcmp(wish, "end") == 0);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        sigaddset(&action.sa_mask, faults[i]); /* one within the handler ends the program at once */
    crash_thread_begin();
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        sigaction(faults[i], &action, NULL);
    return err;
}

void crash_stay_down(void)
{
    begins_anew = false;
}

void crash_end(void)
{
    for (size_t i = 0; i < COUNT_OF(faults) && !HAS_SANITIZER; i++)
        signal(faults[i], SIG_DFL);
    if (record_fd >= 0)
        close(record_fd);
    record_fd = -1;
    free_texts(arguments);
    free_texts(variables);
}

void crash_thread_begin(void)
{
    stack_t stack = {.ss_size = OWN_STACK};

    if (HAS_SANITIZER)
        return;
    stack.ss_sp = mmap(NULL, OWN_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return;
    if (sigaltstack(&stack, NULL))
        munmap(stack.ss_sp, OWN_STACK);
}

/* --- whose code and memory is what ------------------------------------------------------------------------------------------------- */

struct search {
    uintptr_t wanted, begin, end;
};

static int look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct search *search = arg;

    (void)size;
    if (!info->dlpi_name || !*info->dlpi_name) /* the program itself: its code says nothing */
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = (uintptr_t)info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD && part->p_flags & PF_X && is_in(search->wanted, begin, begin + part->p_memsz)) {
            search->begin = begin;
            search->end = begin + part->p_memsz;
            return 1;
        }
    }
    return 0;
}

void crash_add(struct crash_owner *owner, struct str name, struct str type, const void *code, const void *self,
               size_t size, const void *ctx, const void *conf)
{
    struct search search = {.wanted = (uintptr_t)code};
    autobuf struct buf json = {0};

    dl_iterate_phdr(look_at_object, &search);
    buf_add_z(&json, ",\"connector\":");
    json_add_string(&json, str_cut(name, sizeof((struct crash_record *)0)->connector - 1));
    buf_add_z(&json, ",\"type\":");
    json_add_string(&json, type);
    buf_add_u8(&json, 0);
    *owner = (struct crash_owner){.json = mem_dup((const char *)json.p),
                                  .self = self,
                                  .size = size,
                                  .ctx = ctx,
                                  .conf = conf,
                                  .code = search.begin,
                                  .code_end = search.end};
    for (size_t i = 0; i < OWNERS && !owner->slot; i++)
        if (!atomic_load_explicit(&owners[i], memory_order_relaxed)) {
            atomic_store_explicit(&owners[i], owner, memory_order_release);
            owner->slot = i + 1;
        }
}

void crash_remove(struct crash_owner *owner)
{
    if (owner->slot)
        atomic_store_explicit(&owners[owner->slot - 1], NULL, memory_order_release);
    mem_free(owner->json);
    *owner = (struct crash_owner){0};
}
