/* Runs the parallel loops of TVM's object code on a few threads of its own.
 *
 * A loop is a number of tasks, taken one by one from a ticket by the caller and by whichever workers are awake: the caller
 * never waits for a worker that has not begun. Workers look for work for some microseconds, then sleep. Without threads in
 * the process's C library, in a forked child before its first loop, or while another loop runs, the caller does it all. */

typedef __UINT32_TYPE__ uint32_t;

#define WEAK __attribute__((weak))
#define MOST_THREADS 64
#define TASKS_PER_THREAD 4
#define SPINS 2000
#define SIG_BLOCK 0
#define SIG_SETMASK 2

/* Larger than any C library's, which all take zeros for initialised. */
typedef union { uint64_t space[16]; } opaque;
typedef unsigned long pthread_t;

WEAK int pthread_create(pthread_t *, const void *, void *(*)(void *), void *);
WEAK int pthread_join(pthread_t, void **);
WEAK int pthread_mutex_lock(opaque *);
WEAK int pthread_mutex_unlock(opaque *);
WEAK int pthread_cond_wait(opaque *, opaque *);
WEAK int pthread_cond_signal(opaque *);
WEAK int pthread_cond_broadcast(opaque *);
WEAK int pthread_sigmask(int, const opaque *, opaque *);
WEAK int getpid(void);

typedef struct { void *sync_handle; int32_t task_count; } parallel_environment;
typedef int (*parallel_body)(int task, parallel_environment *environment, void *closure);

/* The job's number, how many tasks it has, and how many are taken: in one word, so that a late worker takes nothing. */
#define TICKET(job, count, taken) ((uint64_t)(job) << 32 | (uint64_t)(count) << 16 | (taken))
#define COUNT(ticket) ((uint32_t)(ticket) >> 16)
#define TAKEN(ticket) ((uint32_t)(ticket) & 0xffff)

static struct
{
    opaque mutex, work, finished;
    pthread_t threads[MOST_THREADS];
    int workers, owner, stop;
    int sleeping, waiting, busy;
    uint64_t ticket;
    parallel_body body;
    void *closure;
    int remaining, failures;
} pool;

static int wanted_threads = 1;

#define load(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define store(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)
#define add(place, value) __atomic_add_fetch(&(place), (value), __ATOMIC_SEQ_CST)

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield" ::: "memory");
#endif
}

static int work_left(void)
{
    uint64_t ticket = load(pool.ticket);
    return TAKEN(ticket) < COUNT(ticket);
}

static void run_tasks(void)
{
    uint64_t ticket = load(pool.ticket);
    while (TAKEN(ticket) < COUNT(ticket))
    {
        if (!__atomic_compare_exchange_n(&pool.ticket, &ticket, ticket + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        parallel_environment environment = {0, (int32_t)COUNT(ticket)};
        if (pool.body((int)TAKEN(ticket), &environment, pool.closure))
            add(pool.failures, 1);
        if (!add(pool.remaining, -1) && load(pool.waiting))
        {
            pthread_mutex_lock(&pool.mutex);
            pthread_cond_signal(&pool.finished);
            pthread_mutex_unlock(&pool.mutex);
        }
        ticket = load(pool.ticket);
    }
}

static void *worker(void *unused)
{
    while (!load(pool.stop))
    {
        run_tasks();
        for (int spin = 0; spin < SPINS && !work_left() && !load(pool.stop); ++spin)
            relax();
        if (work_left())
            continue;
        pthread_mutex_lock(&pool.mutex);
        add(pool.sleeping, 1);
        while (!work_left() && !load(pool.stop))
            pthread_cond_wait(&pool.work, &pool.mutex);
        add(pool.sleeping, -1);
        pthread_mutex_unlock(&pool.mutex);
    }
    return unused;
}

/* A forked child has the memory of the pool, but none of its threads. */
static void forget(void)
{
    int busy = pool.busy;
    __builtin_memset(&pool, 0, sizeof pool);
    pool.busy = busy;
}

static void start(void)
{
    opaque all, before;
    __builtin_memset(&all, 0xff, sizeof all);
    __builtin_memset(&before, 0, sizeof before);
    pool.owner = getpid();
    /* Signals are for the process's own threads. */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (pool.workers < wanted_threads - 1 && !pthread_create(&pool.threads[pool.workers], 0, worker, 0))
        ++pool.workers;
    pthread_sigmask(SIG_SETMASK, &before, 0);
    if (pool.workers < wanted_threads - 1)
        wanted_threads = pool.workers + 1;
}

static void stop(void)
{
    if (!pool.workers)
        return;
    if (getpid() != pool.owner)
    {
        forget();
        return;
    }
    pthread_mutex_lock(&pool.mutex);
    store(pool.stop, 1);
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
    while (pool.workers)
        pthread_join(pool.threads[--pool.workers], 0);
    forget();
}

/* How many threads compute a kernel, the caller included; gives how many will. Not while a kernel runs. */
EXPORT int edge_kernels_use_threads(int count)
{
    int possible = pthread_create && pthread_join && pthread_mutex_lock && pthread_mutex_unlock && pthread_cond_wait &&
                   pthread_cond_signal && pthread_cond_broadcast && pthread_sigmask && getpid;
    if (count > MOST_THREADS)
        count = MOST_THREADS;
    if (count < 1 || !possible)
        count = 1;
    if (count != wanted_threads)
        stop();
    wanted_threads = count;
    return count;
}

__attribute__((destructor)) static void unload(void)
{
    stop();
}

static int launch(parallel_body body, void *closure, int task_count)
{
    if (wanted_threads > 1 && pool.workers && pool.owner != getpid())
        forget(), pool.busy = 0;
    int alone = wanted_threads < 2 || __atomic_exchange_n(&pool.busy, 1, __ATOMIC_SEQ_CST);
    if (!alone && !pool.workers)
        start();
    if (alone || !pool.workers)
    {
        parallel_environment environment = {0, 1};
        if (!alone)
            store(pool.busy, 0);
        return body(0, &environment, closure);
    }
    if (task_count <= 0)
        task_count = wanted_threads * TASKS_PER_THREAD;
    pool.body = body;
    pool.closure = closure;
    pool.failures = 0;
    store(pool.remaining, task_count);
    store(pool.ticket, TICKET((pool.ticket >> 32) + 1, task_count, 0));
    if (load(pool.sleeping))
    {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.work);
        pthread_mutex_unlock(&pool.mutex);
    }
    run_tasks();
    for (int spin = 0; spin < SPINS && load(pool.remaining); ++spin)
        relax();
    if (load(pool.remaining))
    {
        pthread_mutex_lock(&pool.mutex);
        store(pool.waiting, 1);
        while (load(pool.remaining))
            pthread_cond_wait(&pool.finished, &pool.mutex);
        store(pool.waiting, 0);
        pthread_mutex_unlock(&pool.mutex);
    }
    int failures = pool.failures;
    store(pool.busy, 0);
    return failures ? -1 : 0;
}

/* The slot through which object code calls, which it defines as weak and empty. */
int (*__TVMBackendParallelLaunch)(parallel_body, void *, int) = launch;
