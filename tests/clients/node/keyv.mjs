// Keyv over @keyv/redis: a cache interface that many libraries take.
import assert from 'node:assert/strict'
import KeyvRedis from '@keyv/redis'
import Keyv from 'keyv'
import { done, host, lost, password, port, restart, test, until, username } from './tap.mjs'

const store = new KeyvRedis(`redis://${username}:${password}@${host}:${port}`)
const keyv = new Keyv(store, { namespace: 'cache' })
keyv.on('error', () => {})

await test('values', async () => {
    assert.equal(await keyv.set('a', { deep: [1, 2] }), true)
    assert.deepEqual(await keyv.get('a'), { deep: [1, 2] })
    assert.equal(await keyv.has('a'), true)
    assert.deepEqual(await keyv.get(['a', 'none']), [{ deep: [1, 2] }, undefined])
    assert.equal(await keyv.delete('a'), true)
    assert.equal(await keyv.get('a'), undefined)
})

await test('many', async () => {
    await keyv.setMany(Array.from({ length: 500 }, (_, i) => ({ key: `k${i}`, value: i })))
    assert.deepEqual(await keyv.getMany(['k1', 'k499']), [1, 499])
    const seen = new Set()
    for await (const [key] of keyv.iterator()) seen.add(key)
    assert.equal(seen.size, 500)
})

await test('expiry', async () => {
    await keyv.set('short', 'x', 50)
    await until(async () => (await keyv.get('short')) === undefined)
})

await test('clear', async () => {
    const neighbour = new Keyv(new KeyvRedis(`redis://${username}:${password}@${host}:${port}`), { namespace: 'other' })
    await neighbour.set('stays', 1)
    await keyv.clear()
    assert.equal(await keyv.get('k1'), undefined)
    assert.equal(await neighbour.get('stays'), 1)
    await neighbour.disconnect()
})

await test('reconnects', async () => {
    await keyv.set('before', 'kept')
    restart()
    await until(async () => (await keyv.get('before').catch(lost)) === 'kept')
})

done()
